"""SIGSTOP past the lease: others finish the tasks, and nothing that the first process does counts.

A process that is stopped in the middle of a write to a SQLite file keeps the file's one write lock
for as long as it is stopped; no process can change that. Here it is stopped between writes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from django.db import connections

from tests.faults.fleet import (
    LEASE,
    Fleet,
    assert_each_attempt_began_once,
    forms,
    held,
    on,
    read_notes,
    rows,
    thaw,
    until_final,
    until_judging,
    until_noted,
    values,
)
from tests.support.client import Client
from tests.support.measures import report
from tests.support.server import Server
from tests.support.waiting import eventually

# How an attempt would end: by itself, or (the last) because it was asked to by a request that the
# frozen process gets as its first thing. `report` never ends and says so again and again.
ENDS = ("succeed", "fail", "report", "cancel", "asked")
DROPPED = "its outcome is dropped"
CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { status } }"


def may_be_written() -> bool:
    """Returns whether the write lock of the test's SQLite file is free."""
    path = connections.settings["default"]["NAME"]
    with closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        other.execute("ROLLBACK")
        return True


async def freeze(fleet: Fleet, server: Server, database: str) -> int:
    pid = await fleet.freeze(server)
    while database == "sqlite" and not may_be_written():
        thaw(pid)
        await asyncio.sleep(0.01)
        await fleet.freeze(server)
    return pid


async def frozen(fleet: Fleet, server: Server, database: str, count: int) -> Counter[str]:
    """Freezes it with so many tasks until others have finished them, and sees what it does then."""
    client = fleet.client(server)
    ways = [ENDS[number % len(ENDS)] for number in range(count)]
    gate = Path(f"{fleet.notes_file} {len(await read_notes())}")  # another one in each round
    asked_for = [
        f'wake(how: "{"succeed" if it == "asked" else it}", gate: "{gate}")' for it in ways
    ]
    ids = await held(client, asked_for)
    await until_noted(ids, 1)
    pid = await freeze(fleet, server, database)
    assert {(it.status, it.attempts) for it in await rows(ids)} == {("running", 1)}
    dropped_before = server.said().count(DROPPED)
    ended = await until_final(ids)
    for row in ended:
        assert (row.status, row.result) == ("completed", 2)
        assert (row.attempts, row.crashes, row.retry_count, row.seq) == (2, 1, 0, 5)
        assert not row.cancel_requested
    before = await values(ids)
    asked = [task_id for task_id, way in zip(ids, ways, strict=True) if way == "asked"]
    late = asyncio.gather(*(late_cancel(client, task_id) for task_id in asked))
    await asyncio.sleep(0.2)  # the cancels are on their way
    # Its bodies may end when it goes on: their outcomes are the first thing that it does.
    gate.touch()  # noqa: ASYNC240 (one call)
    thaw(pid)

    async def all_dropped() -> bool:
        return server.said().count(DROPPED) - dropped_before >= count

    def dropped() -> str:
        return f"{server.said().count(DROPPED) - dropped_before} of {count} outcomes were dropped"

    await eventually(all_dropped, dropped, every=0.05)
    assert set(await late) == {"ALREADY_FINAL"}
    assert await values(ids) == before, "a row has changed"
    return Counter(ways)


async def late_cancel(client: Client, task_id: str) -> str:
    """Returns the answer to a cancel, which waits until the process goes on."""
    return await client.error_code(CANCEL, id=task_id)


@forms("rounds count", on("postgres", 1, 20), on("postgres", 4, 50, long=True),
       on("sqlite", 4, 50, long=True))  # fmt: skip
async def test_what_a_frozen_process_does_when_it_wakes_changes_nothing(
    database: Any, fleet: Fleet, rounds: int, count: int
) -> None:
    """Success, failure, progress and cancel of its attempts: not a column of a row changes."""
    began = time.monotonic()
    servers = await fleet.serve_many(2, lease_seconds=LEASE)
    ways: Counter[str] = Counter()
    for number in range(rounds):
        await until_judging(began)
        ways += await frozen(fleet, servers[number % 2], database.kind, count)
        began = time.monotonic()
        # It has a lease again, under a new id, and runs tasks.
        client = fleet.client(servers[number % 2])
        [row] = await until_final([await client.start("churn(seconds: 0.05)")])
        assert (row.status, row.attempts) == ("completed", 1)
    assert_each_attempt_began_once(await read_notes())
    report("freeze", database=database.kind, tasks=ways.total(), ways=ways)
