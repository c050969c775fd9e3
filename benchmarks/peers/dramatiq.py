"""Dramatiq on Redis: `dramatiq MODULE` in processes of its own."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import counting
from benchmarks.load import System, by_threads, end_to_end
from benchmarks.processes import running

broker = RedisBroker(url=os.environ["BENCHMARK_REDIS"])
dramatiq.set_broker(broker)


@dramatiq.actor
def noop() -> None:
    counting.add()


async def untracked(count: int, producers: int, workers: int, threads: int) -> dict[str, float]:
    command = ("-m", "dramatiq", __name__, "--processes", str(workers), "--threads", str(threads),
               "--skip-logging")  # fmt: skip
    with counting.counter() as counter, running(command) as pids:
        system = System(produce=by_threads(noop.send), workers=pids, processes=workers)
        return await end_to_end(system, counter, count=count, producers=producers)
