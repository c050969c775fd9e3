"""Oban for Python, embedded in the process that enqueues, as its documentation has it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from oban import Oban, schema, worker

from benchmarks import counting
from benchmarks.load import System, by_coroutines, end_to_end

UNFINISHED = (
    "SELECT 1 FROM oban_jobs"
    " WHERE state IN ('available', 'executing', 'retryable', 'scheduled') LIMIT 1"
)


@worker()
class Noop:
    async def process(self, job: Any) -> None:
        counting.add()


async def tracked(count: int, producers: int, limit: int, connections: int) -> dict[str, float]:
    with counting.counter() as counter:
        async with _database(connections) as pool, Oban(pool=pool, queues={"default": limit}):

            async def finished() -> bool:
                async with pool.connection() as connection:
                    return await (await connection.execute(UNFINISHED)).fetchone() is None

            system = System(produce=by_coroutines(Noop.enqueue), finished=finished)
            return await end_to_end(system, counter, count=count, producers=producers)


async def bulk(count: int, batch: int) -> dict[str, float]:
    """`enqueue_many` by a client, which has no queues."""
    async with _database(10) as pool, Oban(pool=pool) as oban:
        await oban.enqueue_many(Noop.new() for _ in range(batch))
        begun, cpu = time.perf_counter(), time.process_time()
        for _ in range(0, count, batch):
            await oban.enqueue_many(Noop.new() for _ in range(batch))
        seconds, used = time.perf_counter() - begun, time.process_time() - cpu
        async with pool.connection() as connection:
            rows = await (await connection.execute("SELECT count(*) FROM oban_jobs")).fetchone()
        assert rows[0] == count + batch
        return {"rows/s": count / seconds, "CPU µs/row": used / count * 1e6}


@asynccontextmanager
async def _database(connections: int) -> AsyncIterator[Any]:
    pool = await Oban.create_pool(os.environ["TEST_DATABASE_URL"], max_size=connections)
    try:
        await schema.install(pool)
        yield pool
    finally:
        await pool.close()
