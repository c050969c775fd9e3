"""How long from `aenqueue()` to the body's first line, when nothing else goes on?"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.harness import Case, Question, percentiles

# Seconds between two: the next one finds everything asleep, as a lone request would.
PAUSE = 0.002
# The same after which the process is quiet, and its services wake up seldom.
QUIET_PAUSE = 12.0


async def ours(count: int, pause: float = PAUSE) -> dict[str, float]:
    from benchmarks.tasks import note_the_start, settled, tally

    latencies = []
    for _ in range(count):
        tally.expect(1)
        begun = time.perf_counter()
        await note_the_start.aenqueue()
        await tally.complete()
        latencies.append(tally.started_at - begun)
        await settled()
        await asyncio.sleep(pause)
    return percentiles(latencies)


def insert(count: int, pause: float = PAUSE) -> dict[str, float]:
    """One row inserted and committed by the bare driver."""
    from benchmarks.raw import Raw

    raw = Raw()
    latencies = []
    for row in raw.new_rows(count):
        begun = time.perf_counter()
        with raw.transaction():
            raw.cursor.execute(raw.insert, row)
        latencies.append(time.perf_counter() - begun)
        time.sleep(min(pause, 0.1))
    raw.connection.close()
    return percentiles(latencies)


async def create_task(count: int) -> dict[str, float]:
    """A bare asyncio task, from its creation to its first line."""
    latencies = []

    async def body(begun: float) -> None:
        latencies.append(time.perf_counter() - begun)

    for _ in range(count):
        await asyncio.create_task(body(time.perf_counter()))
        await asyncio.sleep(PAUSE)
    return percentiles(latencies)


def _case(label: str, beside: str, *, quick: bool, **more: Any) -> Case:
    values: dict[str, Any] = {"parameters": {"count": 500}, **more}
    return Case(
        label=label,
        measure=f"{__name__}:ours",
        beside=f"{__name__}:{beside}",
        quick={"count": 30} if quick else None,
        **values,
    )


QUESTION = Question(
    name="start_latency",
    title="From `aenqueue()` to the body's start, idle",
    beside="one row inserted and committed by the bare driver; in memory: a bare asyncio task",
    cases=[
        _case("SQLite", "insert", quick=True, database="sqlite"),
        _case("PostgreSQL", "insert", quick=False, database="postgres"),
        _case("PostgreSQL, flushed", "insert", quick=False, database="postgres-flushed"),
        _case(
            "PostgreSQL, each after 12 s of quiet",
            "insert",
            quick=False,
            database="postgres",
            parameters={"count": 12, "pause": QUIET_PAUSE},
        ),
        _case("memory", "create_task", quick=True, settings={"track_in_database": False}),
    ],
)
