"""Processes of the version before go on beside new ones, after the migration."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections

from rail_async_tasks import service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.models import TaskExecution
from tests.support.runtimes import Configure, on_databases

pytestmark = pytest.mark.usefixtures("ends_cleanly")
NEW = ("error_type", "language", "error_place")


def insert_as_before() -> Any:
    """Inserts a row without the new columns, as a process of the version before does."""
    now = datetime.now(UTC)
    row = TaskExecution(
        name="missing.task", queue="default", status="pending", created_at=now, updated_at=now
    )
    fields = [it for it in TaskExecution._meta.concrete_fields if it.name not in NEW]
    values = [it.get_db_prep_save(getattr(row, it.attname), connection) for it in fields]
    columns = ", ".join(connection.ops.quote_name(str(it.column)) for it in fields)
    marks = ", ".join(["%s"] * len(values))
    table = TaskExecution._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
    connections.close_all()
    return row.id


@on_databases
async def test_a_row_without_the_new_columns_runs(store: str, configure: Configure) -> None:
    """They are nullable, with no default that the database would have to know."""
    configure()

    @task(name="missing.task")
    async def body() -> str:
        return "done"

    execution_id = await sync_to_async(insert_as_before)()
    await body.aenqueue()  # starts the runtime, which finds the other row
    async for snapshot in service.watch(SYSTEM, execution_id):
        result = snapshot.result, snapshot.error_type
    assert result == ("done", None)
