"""A queue with a rate, and two processes that share it."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import Any

import pytest

from tests.faults.fleet import Fleet, forms, on, read_notes, until_noted
from tests.support.measures import report
from tests.support.pauses import leave, starts
from tests.support.waiting import TIMEOUT, eventually

RATE = 20
# A difference of so few starts is none.
FEW = 3


@forms(
    "backend seconds",
    on("postgres", "asyncio", 6),
    on("postgres", "asyncio", 30, long=True),
    on("postgres", "thread", 30, long=True),
    on("sqlite", "asyncio", 6, long=True),
)
async def test_two_processes_share_a_rate(
    database: Any, fleet: Fleet, backend: str, seconds: int
) -> None:
    """Within 5 % of it over that time, also after one of them was killed; other queues go on."""
    # More slots than a loaded machine needs for that rate.
    settings = {
        "backend": backend, "max_workers": 20, "queues": {"mail": {"rate": f"{RATE}/s"}},
    }  # fmt: skip
    servers = await fleet.serve_many(2, **settings)
    ids = await leave("faults.once", RATE * seconds * 3, "mail", seconds=0.01)

    async def begun(count: int) -> bool:
        return len(await starts(ids)) >= count

    await eventually(lambda: begun(RATE), every=0.05)
    others = await leave("faults.once", 20, "default", seconds=0.01)
    await until_noted(others, 1)
    await eventually(lambda: begun(RATE * seconds // 2), timeout=seconds + TIMEOUT, every=0.05)

    async def both_have_begun_some() -> bool:
        return len({note.pid for note in await read_notes() if note.task in set(ids)}) == 2

    await eventually(both_have_begun_some, every=0.05)
    os.kill(servers[0].pid, signal.SIGKILL)
    await eventually(lambda: begun(RATE * seconds + FEW + 5), timeout=seconds + TIMEOUT, every=0.05)

    times = await starts(ids)
    window = timedelta(seconds=seconds)
    counts = [
        sum(first <= at < first + window for at in times)
        for first in times[: max(len(times) - RATE * seconds, 1)]
    ]
    report("rates", database=database.kind, backend=backend, seconds=seconds, counts=counts[:5])
    if (
        seconds > 6
    ):  # the short form runs beside other tests, where a machine may be too busy to start as many
        assert counts[0] == pytest.approx(RATE * seconds, rel=0.05, abs=FEW)
    assert max(counts) <= RATE * seconds * 1.05
    per_second = [sum(at <= it < at + timedelta(seconds=1) for it in times) for at in times[:-RATE]]
    assert max(per_second) <= RATE * 1.5 + 1  # where a start was late
    pids = {note.pid for note in await read_notes() if note.task in set(ids)}
    assert len(pids) == 2
