"""Several processes that find the same orphans."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.db import transaction

from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.faults.fleet import (
    LEASE,
    Fleet,
    assert_each_attempt_began_once,
    forms,
    on,
    read_notes,
    until_final,
    until_judging,
)
from tests.support.measures import report, spread

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@sync_to_async
def orphan(count: int) -> list[str]:
    """Rows that run in the name of a process that has been silent for years, there all at once."""
    holder = new_id()
    at = datetime.now(UTC)
    made = [
        TaskExecution(
            id=new_id(), name="faults.hold", status="running", queue="default", arguments={},
            attempts=1, seq=2, runtime_id=holder, token=new_id(), created_at=at, updated_at=at,
            started_at=at,
        )
        for _ in range(count)
    ]  # fmt: skip
    with transaction.atomic():
        TaskRuntime.objects.create(
            id=holder,
            place="gone 1",
            started_at=LONG_AGO,
            renewed_at=LONG_AGO,
            lapses_at=LONG_AGO,
            dead=False,
        )
        TaskExecution.objects.bulk_create(made)
    return [str(it.id) for it in made]


@forms("rounds count", on("postgres", 2, 50), on("postgres", 10, 200, long=True),
       on("sqlite", 5, 100, long=True))  # fmt: skip
async def test_four_recoverers(database: Any, fleet: Fleet, rounds: int, count: int) -> None:
    """One orphan, then many: each costs one crash, and its next attempt begins once."""
    began = time.monotonic()
    servers = await fleet.serve_many(4, lease_seconds=LEASE)
    await until_judging(began)
    times, ids = [], []
    for number in range(rounds):
        at = time.time()
        orphans = await orphan(count if number else 1)
        ids += orphans
        for row in await until_final(orphans):
            assert (row.status, row.result) == ("completed", 2)
            assert (row.attempts, row.crashes, row.retry_count, row.seq) == (2, 1, 0, 5)
        times += [note.at - at for note in await read_notes() if note.task in set(orphans)]
    found = await read_notes()
    assert_each_attempt_began_once(found)
    assert {(note.task, note.attempt) for note in found} == {(task_id, 2) for task_id in ids}
    pids = {note.pid for note in found}
    if rounds > 2:  # of two rounds one process may have been first in both
        assert len(pids) > 1, "one process did all of it, without a competitor"
    recovered = [server.said().count("were recovered") for server in servers]
    report(
        "recoverers", database=database.kind, orphans=len(ids), processes=len(pids),
        recovered_by=recovered, seconds=spread(times),
    )  # fmt: skip
