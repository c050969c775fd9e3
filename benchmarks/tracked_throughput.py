"""How many no-ops a second go through the database, each enqueued by itself and awaited?"""

from __future__ import annotations

import asyncio
import time

from benchmarks.harness import Case, Question, Target


async def ours(count: int, producers: int) -> dict[str, float]:
    """Producers in a closed loop: each awaits its task's creation, then enqueues the next."""
    from benchmarks.tasks import noop, settled, tally

    left = iter(range(count))

    async def produce() -> None:
        for _ in left:
            await noop.aenqueue()

    before = await _completed()
    tally.expect(count)
    begun, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(producers):
            group.create_task(produce())
    await tally.complete()
    await settled()
    metrics = _metrics(count, begun, cpu)
    assert await _completed() - before == count
    return metrics


async def _completed() -> int:
    from rail_async_tasks.models import TaskExecution

    return await TaskExecution.objects.filter(status="completed").acount()


def limit(count: int, producers: int) -> dict[str, float]:
    """The same rows, inserted and finished in full batches by one connection, and nothing else."""
    from benchmarks.raw import BATCH, Raw

    raw = Raw()
    rows = raw.new_rows(count)
    outcomes = raw.outcomes(rows)
    begun, cpu = time.perf_counter(), time.process_time()
    for start in range(0, count, BATCH):
        raw.insert_many(rows[start : start + BATCH])
        raw.finish_many(outcomes[start : start + BATCH])
    metrics = _metrics(count, begun, cpu)
    raw.connection.close()
    return metrics


def _metrics(count: int, begun: float, cpu: float) -> dict[str, float]:
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    return {"tasks/s": count / seconds, "CPU µs/task": cpu_seconds / count * 1e6}


def _case(
    label: str,
    database: str,
    producers: int,
    least: int,
    *,
    quick: bool = False,
    count: int = 20_000,
) -> Case:
    return Case(
        label=f"{label}, {producers} producers",
        measure=f"{__name__}:ours",
        beside=f"{__name__}:limit",
        parameters={"count": count, "producers": producers},
        quick={"count": 300} if quick else None,
        database=database,
        settings={"max_pending": None},
        targets={"tasks/s": Target(least)},
    )


QUESTION = Question(
    name="tracked_throughput",
    title="20,000 no-ops, rows in the database, until all are completed",
    beside="the same rows written by the bare driver, 500 at a time, on one connection",
    cases=[
        _case("SQLite", "sqlite", 10, 4400, quick=True),
        _case("SQLite", "sqlite", 100, 5500),
        _case("PostgreSQL", "postgres", 10, 4400),
        _case("PostgreSQL", "postgres", 100, 5500, quick=True),
        _case("PostgreSQL, flushed", "postgres-flushed", 10, 4400, count=4000),
        _case("PostgreSQL, flushed", "postgres-flushed", 100, 5500, count=4000),
    ],
)
