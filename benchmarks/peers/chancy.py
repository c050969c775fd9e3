"""Chancy, its worker and the asyncio executor in the process that enqueues."""

from __future__ import annotations

import logging
import os

from chancy import Chancy, Queue, Worker, job

from benchmarks import counting
from benchmarks.load import System, by_coroutines, end_to_end

UNFINISHED = "SELECT 1 FROM chancy_jobs WHERE state IN ('pending', 'running', 'retrying') LIMIT 1"


@job(queue="default")
async def noop() -> None:
    counting.add()


async def tracked(
    count: int, producers: int, concurrency: int, eager: bool, polling: int, connections: int
) -> dict[str, float]:
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.ERROR)
    queue = Queue(
        "default", concurrency=concurrency, executor=Chancy.Executor.Async,
        polling_interval=polling, eager_polling=eager,
    )  # fmt: skip
    with counting.counter() as counter:
        async with Chancy(
            os.environ["TEST_DATABASE_URL"], log=quiet, max_connection_pool_size=connections
        ) as chancy:
            await chancy.migrate()
            await chancy.declare(queue, upsert=True)

            async def finished() -> bool:
                async with chancy.pool.connection() as connection:
                    return await (await connection.execute(UNFINISHED)).fetchone() is None

            system = System(produce=by_coroutines(lambda: chancy.push(noop)), finished=finished)
            async with Worker(chancy, register_signal_handlers=False):
                return await end_to_end(system, counter, count=count, producers=producers)
