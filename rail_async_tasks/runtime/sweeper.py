"""The sweeper: looks at the ledger that no message can be relied on to trigger."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from rail_async_tasks.events import task_id_of

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime

logger = logging.getLogger("rail_async_tasks.runtime")

# A cancel that was asked for in another process is heeded within this time, in seconds.
INTERVAL = 1.0
# Every so many looks: watched executions that run elsewhere; queues that no setting names.
WATCHED_EVERY = 2
QUEUES_EVERY = 30


class Sweeper:
    """Finds cancels of what runs here, changes made elsewhere, and queues nobody has declared."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        looks = 0
        look: asyncio.Task[None] | None = None
        while not self._stop.is_set():
            self._runtime.give_up_waiting()
            # A look waits for as long as the database is away; the callers above must not.
            if look is None or look.done():
                look = asyncio.create_task(self._look_safely(looks))
                looks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), INTERVAL)
        if look is not None:
            look.cancel()

    async def _look_safely(self, looks: int) -> None:
        try:
            await self._look(looks)
        except Exception as error:
            logger.warning("A look at the ledger failed: %s", error)

    async def _look(self, looks: int) -> None:
        if self._runtime.attempts:
            await self._find_cancels()
        if looks % WATCHED_EVERY == 0:
            await self._reread_watched()
        if looks % QUEUES_EVERY == 0:
            await self._find_queues()

    async def _find_cancels(self) -> None:
        for execution_id in await self._runtime.ledger.cancels_for(self._runtime.id):
            self._runtime.cancel(execution_id)

    async def _reread_watched(self) -> None:
        """Tells watchers here of changes made in other processes; one query for all of them."""
        bus, attempts = self._runtime.bus, self._runtime.attempts
        ids = {task_id_of(topic) for topic in bus.watched()} - {None} - attempts.keys()
        wanted = [execution_id for execution_id in ids if execution_id is not None]
        if not wanted:
            return
        found = await self._runtime.ledger.reread(wanted)
        for snapshot in found:
            bus.publish(snapshot)
        for gone in set(wanted) - {snapshot.id for snapshot in found}:
            bus.end(gone)

    async def _find_queues(self) -> None:
        for queue in await self._runtime.ledger.queues():
            self._runtime.slots.know(queue)
