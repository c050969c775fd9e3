"""The queue of the arq backend without a database: claims jobs, counts them, removes them.

`python -m benchmarks.queue_worker`, until it is ended. What is left out is the attempt: the claim
of the row, the body's own asyncio task, and the outcome.
"""

from __future__ import annotations

import asyncio
import os
import signal

import uvloop

from benchmarks import counting
from rail_async_tasks.backends.arq.library import connect
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.workers.arq.queues import WorkerQueues

SLOTS = 100
LEASE = 15.0


async def serve() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    client = connect(os.environ["BENCHMARK_REDIS"])
    queues = WorkerQueues(client, [QueueLimits("default")], lease=LEASE)
    over: list[tuple[int, str]] = []
    while not ended.is_set():
        claims = await queues.exchange(over, [SLOTS], room=SLOTS, threads=0)
        over = [(queue, job_id) for queue, job_id, _ in claims.jobs]
        for _ in over:
            counting.add()
        if not over:
            await queues.wait([0], 0.5)
    await queues.aclose()


if __name__ == "__main__":
    uvloop.run(serve())
