"""What progress events from a worker, over Redis, cost a web process, and how late they come."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing

from benchmarks.harness import Case, Question, percentiles
from benchmarks.processes import at_work, running, task_workers

# Each task reports so many times a second.
PAUSE = 0.05
# With fewer reports a task may be over before a watcher on a busy machine has seen half of them.
FEW = 50


async def ours(count: int, tasks: int) -> dict[str, float]:
    """One subscriber for each of so many tasks, which run in a worker and report `count` times."""
    from benchmarks.tasks import tick
    from rail_async_tasks import service
    from rail_async_tasks.access import SYSTEM
    from rail_async_tasks.hosting import process as host

    seen, latencies = 0, list[float]()
    with task_workers(1):
        await host.aruntime()
        await at_work(1)
        begun, cpu = time.perf_counter(), time.process_time()

        async def follow() -> None:
            nonlocal seen
            handle = await tick.aenqueue(count=count, pause=PAUSE)
            last = None
            async with aclosing(service.watch(SYSTEM, handle.id)) as snapshots:
                async for snapshot in snapshots:
                    seen += 1
                    # The end has the last report too, which a slow watcher sees there first.
                    if snapshot.progress_message not in {None, last}:
                        last = snapshot.progress_message
                        latencies.append(time.monotonic() - float(last or 0))
                    completed = snapshot.status == "completed"
            assert completed

        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(follow())
        metrics = _metrics(seen, begun, cpu, latencies)
        assert seen > count * tasks / 2 or count < FEW, seen
        await host.astop()
    return metrics


async def bare(count: int, tasks: int) -> dict[str, float]:
    """redis-py reads as many messages, from as many channels, and decodes their JSON."""
    import json

    from redis.asyncio import Redis

    seen, latencies = 0, list[float]()
    client = Redis.from_url(os.environ["BENCHMARK_REDIS"])
    async with client.pubsub() as channels:
        names = [f"bare:{number}" for number in range(tasks)]
        await channels.subscribe(*names)
        for _ in names:
            await channels.get_message(timeout=5)
        begun, cpu = time.perf_counter(), time.process_time()
        with running(("-m", "benchmarks.bare_publisher", str(count), str(PAUSE), *names), 1):
            while seen < count * tasks:
                message = await channels.get_message(ignore_subscribe_messages=True, timeout=5)
                if message is not None:
                    sent_at = float(json.loads(message["data"])["message"])
                    latencies.append(time.monotonic() - sent_at)
                    seen += 1
            metrics = _metrics(seen, begun, cpu, latencies)
    await client.aclose()
    return metrics


def _metrics(seen: int, begun: float, cpu: float, latencies: list[float]) -> dict[str, float]:
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    return {
        "events/s": seen / seconds,
        "CPU µs/event": cpu_seconds / seen * 1e6,
        **percentiles(latencies),
    }


def _case(tasks: int, *, quick: bool = False) -> Case:
    return Case(
        label=f"{tasks} tasks, each watched",
        measure=f"{__name__}:ours",
        beside=f"{__name__}:bare",
        parameters={"count": 100, "tasks": tasks},
        quick={"count": 10} if quick else None,
        database="postgres",
        redis=True,
        settings={
            "backend": "arq", "max_concurrency": 1000, "progress_interval_seconds": PAUSE / 2,
        },
    )  # fmt: skip


QUESTION = Question(
    name="progress_across",
    title="Progress in a worker, 20 times a second, to a watcher in another process",
    beside="redis-py, which reads and decodes as many messages",
    cases=[_case(10, quick=True), _case(100)],
    repeats=3,
)
