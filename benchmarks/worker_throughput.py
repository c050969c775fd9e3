"""How many no-ops a second go through worker processes, each enqueued by itself and awaited?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from benchmarks.harness import Case, Question
from benchmarks.processes import at_work, cpu_seconds, running, task_workers

PRODUCERS = 100
WORKER = ("-m", "arq", "benchmarks.bare_arq.WorkerSettings")


async def ours(count: int, workers: int) -> dict[str, float]:
    """Until every row is completed."""
    from benchmarks.tasks import noop
    from rail_async_tasks.hosting import process as host
    from rail_async_tasks.models import TaskExecution

    with task_workers(workers) as pids:
        await host.aruntime()
        await at_work(workers)
        completed = TaskExecution.objects.filter(status="completed")
        before = await completed.acount()
        left = iter(range(count))

        async def produce() -> None:
            for _ in left:
                await noop.aenqueue()

        begun, cpu, theirs = time.perf_counter(), time.process_time(), cpu_seconds(pids)
        async with asyncio.TaskGroup() as group:
            for _ in range(PRODUCERS):
                group.create_task(produce())
        unfinished = TaskExecution.objects.exclude(status="completed")
        while await unfinished.aexists():  # noqa: ASYNC110 - the rows are other processes' work
            await asyncio.sleep(0.02)
        metrics = _metrics(count, begun, cpu, cpu_seconds(pids) - theirs)
        assert await completed.acount() - before == count
        await host.astop()
    return metrics


async def arq(count: int, workers: int) -> dict[str, float]:
    """The same through arq alone: its own worker, JSON, no results or logs, asked every 20 ms."""
    from arq.connections import RedisSettings, create_pool

    from benchmarks.bare_arq import QUEUE, dumps, loads

    pool = await create_pool(
        RedisSettings.from_dsn(os.environ["BENCHMARK_REDIS"]),
        job_serializer=dumps, job_deserializer=loads, default_queue_name=QUEUE,
    )  # fmt: skip
    with running((*WORKER, "--custom-log-dict", "benchmarks.bare_arq.LOGGING"), workers) as pids:
        await pool.enqueue_job("noop")
        await _until_empty(pool, QUEUE)
        left = iter(range(count))

        async def produce() -> None:
            for _ in left:
                await pool.enqueue_job("noop")

        begun, cpu, theirs = time.perf_counter(), time.process_time(), cpu_seconds(pids)
        async with asyncio.TaskGroup() as group:
            for _ in range(PRODUCERS):
                group.create_task(produce())
        await _until_empty(pool, QUEUE)
        metrics = _metrics(count, begun, cpu, cpu_seconds(pids) - theirs)
    await pool.aclose()
    return metrics


async def _until_empty(pool: object, queue: str) -> None:
    while await pool.zcard(queue):  # type: ignore[attr-defined]  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def _metrics(count: int, begun: float, cpu: float, theirs: float) -> dict[str, float]:
    seconds, here = time.perf_counter() - begun, time.process_time() - cpu
    return {
        "tasks/s": count / seconds,
        "web CPU µs/task": here / count * 1e6,
        "worker CPU µs/task": max(theirs, 0.01) / count * 1e6,
    }


def _cases(counts: Sequence[int]) -> list[Case]:
    return [
        Case(
            label=f"{workers} worker" + "s" * (workers > 1),
            measure=f"{__name__}:ours",
            beside=f"{__name__}:arq",
            parameters={"count": 5_000, "workers": workers},
            quick={"count": 50} if workers == 1 else None,
            database="postgres",
            redis=True,
            settings={"backend": "arq", "max_pending": None},
        )
        for workers in counts
    ]


QUESTION = Question(
    name="worker_throughput",
    title="5,000 no-ops by workers of the arq backend, rows in PostgreSQL, until all are completed",
    beside="arq alone, which keeps no rows: its own worker, asked every 20 ms, without logs",
    cases=_cases((1, 2)),
    repeats=3,
)
