"""A backend of one's own on a list in Redis, as `docs/backends/writing-one.md` has it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.workers.delivery import adeliver
from rail_async_tasks.workers.own import worker_process

SLOTS = 10


def connect() -> Any:
    return Redis.from_url(os.environ["BACKENDS_REDIS"], decode_responses=True, socket_timeout=3)


class ShelfBackend(BrokerBackend):
    name = "tests.backends.shelf.ShelfBackend"

    def __init__(self) -> None:
        self._client = connect()

    async def push(self, dispatches: Sequence[Dispatch]) -> None:
        await self._client.rpush("shelf", *(str(it.id) for it in dispatches))

    async def aclose(self) -> None:
        await self._client.aclose()


async def main() -> None:
    client, running = connect(), set[asyncio.Task[None]]()
    async with worker_process() as stopped:
        while not stopped.is_set():
            if len(running) == SLOTS:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if (found := await client.blpop("shelf", timeout=0.2)) is not None:
                delivery = asyncio.create_task(adeliver(found[1]))
                running.add(delivery)
                delivery.add_done_callback(running.discard)
    await client.aclose()


if __name__ == "__main__":
    import django

    django.setup()
    asyncio.run(main())
