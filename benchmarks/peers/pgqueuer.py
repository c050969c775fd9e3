"""PgQueuer on asyncpg, its consumer in the process that enqueues."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries

from benchmarks import counting
from benchmarks.load import System, by_coroutines, end_to_end


async def tracked(count: int, producers: int, batch: int, pooled: bool) -> dict[str, float]:
    with counting.counter() as counter:
        async with _connection() as own, _connection() as others, _pool() as pool:
            queries = Queries(AsyncpgPoolDriver(pool) if pooled else AsyncpgDriver(others))
            await queries.install()
            consumer = PgQueuer(AsyncpgDriver(own))

            @consumer.entrypoint("noop")
            async def noop(job: Any) -> None:
                counting.add()

            async def finished() -> bool:
                return await pool.fetchrow("SELECT 1 FROM pgqueuer LIMIT 1") is None

            running = asyncio.create_task(
                consumer.run(batch_size=batch, dequeue_timeout=timedelta(seconds=30))
            )
            system = System(
                produce=by_coroutines(lambda: queries.enqueue("noop", b"")), finished=finished
            )
            try:
                return await end_to_end(system, counter, count=count, producers=producers)
            finally:
                consumer.shutdown.set()
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running


async def bulk(count: int, batch: int) -> dict[str, float]:
    """`enqueue` with lists, without a consumer."""
    async with _connection() as connection:
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        names, payloads, priorities = ["noop"] * batch, [b"{}"] * batch, [0] * batch
        await queries.enqueue(names, payloads, priorities)
        begun, cpu = time.perf_counter(), time.process_time()
        for _ in range(0, count, batch):
            await queries.enqueue(names, payloads, priorities)
        seconds, used = time.perf_counter() - begun, time.process_time() - cpu
        assert await connection.fetchval("SELECT count(*) FROM pgqueuer") == count + batch
        return {"rows/s": count / seconds, "CPU µs/row": used / count * 1e6}


@asynccontextmanager
async def _connection() -> AsyncIterator[Any]:
    connection = await asyncpg.connect(os.environ["TEST_DATABASE_URL"])
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def _pool() -> AsyncIterator[Any]:
    async with asyncpg.create_pool(
        os.environ["TEST_DATABASE_URL"], min_size=1, max_size=10
    ) as pool:
        yield pool
