"""SIGKILL in the middle of a bulk change: another process goes on, and changes nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from typing import Any

import psycopg
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from rail_async_tasks.dashboard.bulk_tasks import bulk_retry
from rail_async_tasks.hosting.stored import storing
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution
from tests.faults.fleet import LEASE, Fleet, forms, holder_of, on, until_final
from tests.support.databases import database_url
from tests.support.waiting import TIMEOUT, eventually

FAILED = 60


@sync_to_async
def left_failed() -> list[str]:
    """So many tasks that have failed; returns their ids."""
    now = timezone.now()
    made = TaskExecution.objects.bulk_create(
        TaskExecution(
            id=new_id(), name="faults.race", status="failed", arguments={"seconds": 0},
            created_at=now, updated_at=now, started_at=now, completed_at=now, attempts=1,
        )
        for _ in range(FAILED)
    )  # fmt: skip
    return [str(row.id) for row in made]


@sync_to_async
def bulk_retried() -> str:
    """A retry of all that failed waits; returns its id."""
    root = get_user_model().objects.create_superuser(username="root")
    with storing():
        handle = bulk_retry.using(owner=root).enqueue(q="state:failed", before=timezone.now())
    return str(handle.id)


@sync_to_async
def retries() -> Counter[str]:
    """How many retries each task has."""
    parents = TaskExecution.objects.filter(parent_id__isnull=False)
    return Counter(str(it) for it in parents.values_list("parent_id", flat=True))


@sync_to_async
def waits_for_the_lock() -> bool:
    """Whether a statement does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(cursor.fetchone() != (0,))


@forms("size", on("postgres", FAILED))
async def test_a_bulk_retry_goes_on_after_a_kill(database: Any, fleet: Fleet, size: int) -> None:
    """Each task is retried once: those before the kill, and those after it."""
    failed = await left_failed()
    with psycopg.connect(database_url()) as other:
        # There the change waits, with others behind it.
        stop = sorted(failed)[size // 2]
        other.execute("SELECT 1 FROM rail_async_tasks_execution WHERE id = %s FOR UPDATE", [stop])
        servers = await fleet.serve_many(2, lease_seconds=LEASE)
        task_id = await bulk_retried()
        await eventually(waits_for_the_lock, every=0.05)
        before = await retries()
        assert 0 < len(before) < size
        place = await holder_of(task_id)
        [doomed] = [it for it in servers if place.endswith(f" {it.pid}")]
        os.kill(doomed.pid, signal.SIGKILL)
        await asyncio.to_thread(doomed.wait, TIMEOUT)
    [row] = await until_final([task_id])
    assert (row.status, row.attempts, row.crashes) == ("completed", 2, 1)
    assert await retries() == Counter(failed)
    assert row.result["changed"] == size - len(before)
