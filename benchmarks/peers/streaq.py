"""streaQ: `streaq run WORKER` in processes of its own."""

from __future__ import annotations

import json
import os
from typing import Any

from streaq import Worker

from benchmarks import counting
from benchmarks.load import System, by_coroutines, end_to_end
from benchmarks.processes import running

OPTIONS: dict[str, Any] = json.loads(os.environ.get("PEER_OPTIONS", "{}"))
worker: Worker[None] = Worker(
    redis_url=os.environ["BENCHMARK_REDIS"],
    concurrency=OPTIONS.get("concurrency", 16),
    prefetch=OPTIONS.get("prefetch"),
    anyio_kwargs={"use_uvloop": OPTIONS.get("uvloop", False)},
)


@worker.task(ttl=OPTIONS.get("ttl", 300), silent=True)
async def noop() -> None:
    counting.add()


async def untracked(
    count: int, producers: int, workers: int, options: dict[str, Any]
) -> dict[str, float]:
    environment = {"PEER_OPTIONS": json.dumps(options)}
    command = ("-c", "from streaq.cli import cli; cli()", "run", f"{__name__}:worker")
    with counting.counter() as counter, running(command, workers, environment) as pids:
        async with worker:

            async def enqueue() -> None:
                await noop.enqueue()

            async def finished() -> bool:
                return await worker.queue_size() == 0

            system = System(
                produce=by_coroutines(enqueue), finished=finished, workers=pids, processes=workers
            )
            return await end_to_end(system, counter, count=count, producers=producers)
