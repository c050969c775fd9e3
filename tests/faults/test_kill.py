"""SIGKILL with many running tasks: others run them, each attempt once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.faults.fleet import (
    LEASE,
    Fleet,
    assert_each_attempt_began_once,
    forms,
    held,
    lapse_of,
    on,
    read_notes,
    rows,
    until_final,
    until_judging,
    until_noted,
)
from tests.support.measures import report, spread
from tests.support.server import Server
from tests.support.waiting import TIMEOUT

HELD, CHURNING = 50, 10
# Within so many seconds after the lease whatever ran runs again, on a machine that is not busy.
RECOVERY = 5.0
DEFAULT_LEASE = 15.0


async def killed(fleet: Fleet, doomed: Server) -> list[float]:
    """Kills it with 50 tasks that run and ten that come and go.

    Returns how long it took, from the kill on, until each of the 50 had begun again elsewhere.
    """
    client = fleet.client(doomed)
    ids = await held(client, ["hold"] * HELD)
    await until_noted(ids, 1)
    lengths = [random.uniform(0.05, 0.6) for _ in range(CHURNING)]  # the kill finds some of them
    others = await asyncio.gather(*(client.start(f"churn(seconds: {it})") for it in lengths))
    assert {row.status for row in await rows(ids)} == {"running"}
    await asyncio.sleep(random.uniform(0, 0.4))
    os.kill(doomed.pid, signal.SIGKILL)
    killed_at = time.time()
    await asyncio.to_thread(doomed.wait, TIMEOUT)
    ended = await until_final([*ids, *others])
    lapse = await lapse_of(doomed)
    found = await read_notes()
    assert_each_attempt_began_once(found)
    begun = {note.task: note.at for note in found if note.attempt == 2}
    for row in ended:
        lost = int(str(row.id) in ids or row.attempts == 2)
        assert (row.status, row.result) == ("completed", row.attempts)
        assert (row.attempts, row.crashes, row.retry_count) == (1 + lost, lost, 0)
        assert row.seq == 1 + 2 * row.attempts
        assert (str(row.id) in begun) is bool(lost)
    times = [begun[task_id] - killed_at for task_id in ids]
    # No process loses a task that may still run.
    assert [it for it in ids if begun[it] < lapse] == []
    return times


@forms("rounds", on("postgres", 1), on("postgres", 20, long=True), on("sqlite", 20, long=True))
async def test_what_ran_in_a_killed_process_runs_elsewhere(
    database: Any, fleet: Fleet, rounds: int
) -> None:
    """All of it, once the lease is over; no attempt begins twice; it costs one crash each."""
    began = time.monotonic()
    servers = await fleet.serve_many(3, lease_seconds=LEASE)
    times: list[float] = []
    for left in range(rounds, 0, -1):
        await until_judging(began)
        times += await killed(fleet, servers.pop(0))
        if left > 2:
            servers.append(await fleet.serve(lease_seconds=LEASE))
    report("kill", database=database.kind, rounds=rounds, lease=LEASE, seconds=spread(times))


@forms("size", on("postgres", 1, long=True), on("sqlite", 1, long=True))
async def test_the_same_with_the_lease_that_is_the_default(
    database: Any, fleet: Fleet, size: int
) -> None:
    """All of it within 20 s."""
    began = time.monotonic()
    doomed, _ = await fleet.serve_many(2, lease_seconds=DEFAULT_LEASE)
    await until_judging(began, DEFAULT_LEASE)
    times = await killed(fleet, doomed)
    assert max(times) < DEFAULT_LEASE + RECOVERY
    report("kill", database=database.kind, rounds=1, lease=DEFAULT_LEASE, seconds=spread(times))


@forms("size", on("postgres", 1), on("sqlite", 1, long=True))
async def test_a_task_that_ends_the_loop_fails_in_the_end(
    database: Any, fleet: Fleet, size: int
) -> None:
    """As one that kills its process: it costs a crash each time."""
    ids: list[str] = []
    for _ in range(2):
        doomed = await fleet.serve(max_crashes=1, lease_seconds=LEASE)
        if not ids:
            gate = f"{fleet.notes_file} answered"
            ids = [await fleet.client(doomed, anonymous=True).start(f'leave(gate: "{gate}")')]
            Path(gate).touch()  # noqa: ASYNC240 (one call)
        await asyncio.to_thread(doomed.wait, TIMEOUT)
    await fleet.serve(max_crashes=1, lease_seconds=LEASE)
    [row] = await until_final(ids)
    assert (row.status, row.error_code) == ("failed", "worker_lost")
    assert (row.attempts, row.crashes) == (2, 2)
