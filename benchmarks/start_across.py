"""How long from the answer of an enqueue to the body's start, in another process, idle?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from benchmarks.harness import Case, Question, percentiles
from benchmarks.processes import at_work, running, task_workers

# Seconds between two: long enough for everything to fall asleep.
PAUSE = 0.2
# Further apart than the surveys of a process that has found nothing for a while.
LONG_PAUSE = 3.0
# Seconds at least: a body may begin before its enqueue is answered, and there is no ratio to zero.
LEAST = 1e-6

OTHER = ("-m", "benchmarks.other_process")


async def arq(count: int, pause: float) -> dict[str, float]:
    """Enqueued here, run by an arq worker."""
    from benchmarks.tasks import return_the_start
    from rail_async_tasks.hosting import process as host

    with task_workers(1):
        await host.aruntime()
        await at_work(1)

        async def enqueue() -> tuple[Any, float]:
            handle = await return_the_start.aenqueue()
            return handle, time.monotonic()

        metrics = await _latencies(count, pause, enqueue)
        await host.astop()
    return metrics


async def web(count: int, pause: float) -> dict[str, float]:
    """Stored by a process that runs nothing, such as a command, and run by a web process."""
    from asgiref.sync import sync_to_async

    from benchmarks.tasks import return_the_start
    from rail_async_tasks.hosting.stored import storing

    def store() -> tuple[Any, float]:
        with storing():
            handle = return_the_start.enqueue()
        return handle, time.monotonic()

    with running(OTHER, 1):
        await at_work(0)
        await asyncio.sleep(1)  # it listens
        return await _latencies(count, pause, sync_to_async(store))


async def _latencies(
    count: int, pause: float, enqueue: Callable[[], Awaitable[tuple[Any, float]]]
) -> dict[str, float]:
    latencies = []
    for _ in range(count):
        await asyncio.sleep(pause)
        handle, answered_at = await enqueue()
        latencies.append(max(await handle.aresult(60) - answered_at, LEAST))
    return percentiles(latencies)


async def bare_arq(count: int, pause: float) -> dict[str, float]:
    """arq's own worker, which looks every 0.02 s."""
    from arq import create_pool
    from arq.connections import RedisSettings

    from benchmarks.bare_arq import QUEUE, dumps, loads

    pool = await create_pool(
        RedisSettings.from_dsn(os.environ["BENCHMARK_REDIS"]), default_queue_name=QUEUE,
        job_serializer=dumps, job_deserializer=loads,
    )  # fmt: skip
    latencies = []
    with running(("-m", "arq", "benchmarks.bare_arq.WorkerSettings"), 1):
        first = await pool.enqueue_job("return_the_start")
        assert first is not None
        await first.result(60, poll_delay=0.01)
        for _ in range(count):
            await asyncio.sleep(pause)
            job = await pool.enqueue_job("return_the_start")
            answered_at = time.monotonic()
            assert job is not None
            latencies.append(max(await job.result(60, poll_delay=0.01) - answered_at, LEAST))
    await pool.aclose()
    return percentiles(latencies)


def bare_notify(count: int, pause: float) -> dict[str, float]:
    """A NOTIFY from one connection to another, by the bare driver."""
    url, latencies = os.environ["TEST_DATABASE_URL"], []
    with (
        psycopg.connect(url, autocommit=True) as sender,
        psycopg.connect(url, autocommit=True) as listener,
    ):
        listener.execute("LISTEN bare")
        for _ in range(count):
            time.sleep(min(pause, PAUSE))
            begun = time.monotonic()
            sender.execute("NOTIFY bare")
            for _ in listener.notifies(stop_after=1):
                latencies.append(time.monotonic() - begun)
    return percentiles(latencies)


def _case(label: str, measure: str, beside: str, **more: Any) -> Case:
    values: dict[str, Any] = {"parameters": {"count": 100, "pause": PAUSE}, **more}
    return Case(
        label=label, measure=f"{__name__}:{measure}", beside=f"{__name__}:{beside}", **values
    )


QUESTION = Question(
    name="start_across",
    title="From the answer of an enqueue to the body's start in another process, idle",
    beside="arq's own worker with `poll_delay=0.02`; a bare NOTIFY",
    cases=[
        _case(
            "through arq, PostgreSQL", "arq", "bare_arq", database="postgres", redis=True,
            settings={"backend": "arq"}, quick={"count": 3, "pause": 0.01},
        ),
        _case("two web processes, PostgreSQL", "web", "bare_notify", database="postgres"),
        _case(
            "the same, long apart", "web", "bare_notify", database="postgres",
            parameters={"count": 20, "pause": LONG_PAUSE},
        ),
    ],
    repeats=3,
)  # fmt: skip
