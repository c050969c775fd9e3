"""SIGKILL with many running tasks: others run them, each attempt once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from typing import Any

from tests.faults.fleet import (
    LEASE,
    RECOVERY,
    Fleet,
    assert_each_attempt_began_once,
    forms,
    held,
    on,
    read_notes,
    rows,
    until_final,
    until_judging,
    until_noted,
)
from tests.support.measures import report, spread
from tests.support.server import Server

HELD, CHURNING = 50, 10
IN_ALL = 20.0  # seconds within which whatever ran is final or runs again
DEFAULT_LEASE = 15.0


async def killed(fleet: Fleet, doomed: Server, lease: float) -> list[float]:
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
    await asyncio.to_thread(doomed.wait, 10)
    ended = await until_final([*ids, *others], IN_ALL)
    taken = time.time() - killed_at
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
    assert min(times) > lease * 0.5  # no process loses a task that may still run
    assert max(times) < lease + RECOVERY
    assert taken < IN_ALL
    return times


@forms("rounds", on("postgres", 1), on("postgres", 20, long=True), on("sqlite", 20, long=True))
async def test_what_ran_in_a_killed_process_runs_elsewhere(
    database: Any, fleet: Fleet, rounds: int
) -> None:
    """All of it, within the lease and 5 s; no attempt begins twice; it costs one crash each."""
    began = time.monotonic()
    servers = await fleet.serve_many(3)
    times: list[float] = []
    for left in range(rounds, 0, -1):
        await until_judging(began)
        times += await killed(fleet, servers.pop(0), LEASE)
        if left > 2:
            servers.append(await fleet.serve())
    report("kill", database=database.kind, rounds=rounds, lease=LEASE, seconds=spread(times))


@forms("size", on("postgres", 1, long=True), on("sqlite", 1, long=True))
async def test_the_same_with_the_lease_that_is_the_default(
    database: Any, fleet: Fleet, size: int
) -> None:
    """All of it within 20 s."""
    began = time.monotonic()
    doomed, _ = await fleet.serve_many(2, lease_seconds=DEFAULT_LEASE)
    await until_judging(began, DEFAULT_LEASE)
    times = await killed(fleet, doomed, DEFAULT_LEASE)
    report("kill", database=database.kind, rounds=1, lease=DEFAULT_LEASE, seconds=spread(times))


@forms("size", on("postgres", 1), on("sqlite", 1, long=True))
async def test_a_task_that_ends_the_loop_fails_in_the_end(
    database: Any, fleet: Fleet, size: int
) -> None:
    """As one that kills its process: it costs a crash each time."""
    ids: list[str] = []
    for _ in range(2):
        doomed = await fleet.serve(max_crashes=1)
        if not ids:
            ids = [await fleet.client(doomed, anonymous=True).start("leave")]
        await asyncio.to_thread(doomed.wait, 20)
    await fleet.serve(max_crashes=1)
    [row] = await until_final(ids, 20)
    assert (row.status, row.error_code) == ("failed", "worker_lost")
    assert (row.attempts, row.crashes) == (2, 2)
