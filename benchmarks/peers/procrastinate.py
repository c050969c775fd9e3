"""Procrastinate, its worker in the process that enqueues."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from procrastinate import App, PsycopgConnector

from benchmarks import counting
from benchmarks.load import System, by_coroutines, end_to_end

UNFINISHED = "SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing') LIMIT 1"


async def tracked(
    count: int, producers: int, concurrency: int, connections: int
) -> dict[str, float]:
    connector = PsycopgConnector(
        conninfo=os.environ["TEST_DATABASE_URL"], min_size=4, max_size=connections
    )
    app = App(connector=connector)

    @app.task
    async def noop() -> None:
        counting.add()

    async def finished() -> bool:
        return not await connector.execute_query_all_async(UNFINISHED)

    with counting.counter() as counter:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            worker = asyncio.create_task(
                app.run_worker_async(concurrency=concurrency, install_signal_handlers=False)
            )
            system = System(produce=by_coroutines(noop.defer_async), finished=finished)
            try:
                return await end_to_end(system, counter, count=count, producers=producers)
            finally:
                worker.cancel()
                with suppress(asyncio.CancelledError):
                    await worker
