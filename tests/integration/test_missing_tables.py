"""A database without our tables, or without the newest columns: one line that says `migrate`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from copy import copy
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, connections
from django.test import AsyncClient

from rail_async_tasks import service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.errors import TablesMissing
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.hosting import tables as hosting_tables
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger import tables as ledger_tables
from rail_async_tasks.ledger.tables import is_lack_of_tables
from tests.settings import database as database_config
from tests.support.databases import default_database
from tests.support.runtimes import Configure
from tests.support.waiting import eventually, final

MESSAGE = "The database lacks tables of rail_async_tasks: run `manage.py migrate`."
DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["zero", "0002"])
def store(
    request: pytest.FixtureRequest,
    kind: str,
    tmp_path: Path,
    django_db_blocker: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """A database whose migrations have run so far, instead of a migrated one."""
    # What a process knows and has logged.
    monkeypatch.setattr(ledger_tables, "_complete", set())
    monkeypatch.setattr(hosting_tables, "_backoff", copy(hosting_tables._backoff))
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'db.sqlite3'}"
    else:
        cluster = request.getfixturevalue("postgres_server")
        with closing(psycopg.connect(cluster.url("postgres"), autocommit=True)) as admin:
            admin.execute("DROP DATABASE IF EXISTS unmigrated WITH (FORCE)")
            admin.execute("CREATE DATABASE unmigrated")
        url = cluster.url("unmigrated")
    with django_db_blocker.unblock(), default_database(database_config(kind, url)):
        if request.param != "zero":
            call_command("migrate", "rail_async_tasks", request.param, verbosity=0)
        yield request.param


pytestmark = [
    pytest.mark.turns("kind"),
    pytest.mark.parametrize("kind", DATABASES, indirect=True),
    pytest.mark.usefixtures("ends_cleanly"),
]


def declare() -> Any:
    @task(name="missing.task")
    async def body() -> str:
        return "done"

    return body


def alarms(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [it for it in caplog.records if it.levelno >= logging.WARNING]


@pytest.mark.covering("kind", "store", "backend")
@pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])
async def test_a_start_is_refused_with_the_remedy(
    kind: str, store: str, configure: Configure, caplog: pytest.LogCaptureFixture, backend: str
) -> None:
    """By a code, for clients too; nothing is logged by half a runtime."""
    configure(backend=backend)
    with pytest.raises(TablesMissing, match=r'"default" lacks .*: run `manage.py migrate`') as info:
        await declare().aenqueue()
    assert (info.value.code, info.value.message) == ("BACKEND_UNAVAILABLE", MESSAGE)
    with pytest.raises(TablesMissing):
        await service.aget(SYSTEM, new_id())
    assert host.current() is None
    assert [it for it in alarms(caplog) if it.name.startswith("rail_async_tasks")] == []


@pytest.mark.covering("kind", "store")
async def test_over_http(kind: str, store: str, configure: Configure) -> None:
    """A 503, and no details of the database."""
    configure()
    response = await AsyncClient().get(f"/api/v1/tasks/{new_id()}/")
    assert response.status_code == 503
    assert response.json() == {"error": {"code": "BACKEND_UNAVAILABLE", "message": MESSAGE}}


async def test_a_server_says_so_once_and_starts_when_they_are_there(
    kind: str,
    store: str,
    configure: Configure,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It serves meanwhile; no restart is needed after `migrate`."""
    configure()
    monkeypatch.setattr(server, "LOOK_FOR_TABLES_EVERY", 0.02)
    looks = 0
    check = host.ledger().check_tables

    def counted() -> None:
        nonlocal looks
        looks += 1
        check()

    monkeypatch.setattr(host.ledger(), "check_tables", counted)
    try:
        await server.startup()
        assert server.waits_for_tables()
        await eventually(lambda: looks > 3)
        (record,) = alarms(caplog)
        assert record.levelname == "ERROR"
        assert "run `manage.py migrate`" in record.getMessage()
        assert record.exc_info is None
        await sync_to_async(call_command)("migrate", verbosity=0)
        await eventually(lambda: host.current() is not None)
        await eventually(lambda: "the tables are there" in caplog.text)
        assert not server.waits_for_tables()
        handle = await declare().aenqueue()
        assert (await final(handle)).result == "done"
    finally:
        await server.shutdown()
        server.reset()


@pytest.mark.covering("kind", "store")
async def test_a_worker_ends_with_the_remedy(kind: str, store: str, configure: Configure) -> None:
    """It has nothing else to do."""
    configure()
    try:
        with pytest.raises(TablesMissing, match="migrate"):
            await server.startup(waits=False)
        assert not server.waits_for_tables()
    finally:
        server.reset()


@pytest.mark.covering("kind", "store")
async def test_a_command_ends_with_the_remedy(kind: str, store: str, configure: Configure) -> None:
    """One line, no traceback."""
    configure()
    with pytest.raises(CommandError, match=r"run `manage\.py migrate`"):
        await sync_to_async(call_command)("cleanup_tasks", "--days", "7")


@pytest.mark.covering("kind", "store")
async def test_other_errors_are_not_taken_for_it(
    kind: str, store: str, configure: Configure
) -> None:
    """A table of the project's own is not ours to ask for."""

    def query() -> DatabaseError:
        with connection.cursor() as cursor, pytest.raises(DatabaseError) as info:
            cursor.execute("SELECT 1 FROM shop_cart")
        connections.close_all()
        return info.value

    assert not is_lack_of_tables(await sync_to_async(query)())
