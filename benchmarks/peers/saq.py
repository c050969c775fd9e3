"""SAQ on Redis: `saq SETTINGS` in processes of its own."""

from __future__ import annotations

import os
from typing import Any

from saq import Queue

from benchmarks import counting
from benchmarks.load import System, by_coroutines, end_to_end
from benchmarks.processes import running


async def noop(ctx: dict[str, Any]) -> None:
    counting.add()


def settings() -> dict[str, Any]:
    """What the worker's command reads."""
    return {
        "queue": Queue.from_url(os.environ["BENCHMARK_REDIS"]),
        "functions": [noop],
        "concurrency": int(os.environ["PEER_CONCURRENCY"]),
    }


async def untracked(
    count: int, producers: int, workers: int, concurrency: int, ttl: int
) -> dict[str, float]:
    """`ttl`: seconds that a result is kept; -1 for none."""
    queue = Queue.from_url(os.environ["BENCHMARK_REDIS"])
    await queue.connect()
    environment = {"PEER_CONCURRENCY": str(concurrency)}
    command = ("-m", "saq", "benchmarks.peers.saq.settings", "--quiet")
    with counting.counter() as counter, running(command, workers, environment) as pids:

        async def finished() -> bool:
            return await queue.count("incomplete") == 0

        system = System(
            produce=by_coroutines(lambda: queue.enqueue("noop", ttl=ttl)),
            finished=finished,
            workers=pids,
            processes=workers,
        )
        metrics = await end_to_end(system, counter, count=count, producers=producers)
    await queue.disconnect()
    return metrics
