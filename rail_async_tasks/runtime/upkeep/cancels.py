"""Finds cancels that other processes have asked for, of attempts that run here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from uuid import UUID

from rail_async_tasks.ledger.upkeep import Recoveries
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.upkeep.steps import Step

# Between two reads that other processes' announcements ask for, in seconds.
PAUSE_SECONDS = 0.1


class CancelReader:
    """Reads the cancels of this process's rows: when its step is taken, and when one is announced.

    Args:
        running: ids of the executions that run here.
        cancel: asks the attempt of that execution to end, if it runs here.
    """

    def __init__(
        self,
        *,
        recoveries: Recoveries,
        state: RuntimeState,
        running: Collection[UUID],
        cancel: Callable[[UUID], None],
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._recoveries = recoveries
        self._state = state
        self._running = running
        self._cancel = cancel
        self._pause = pause
        self._announced = asyncio.Event()
        self._stop = asyncio.Event()
        self.step = Step("cancels", self._read)

    def announced(self, execution_id: UUID) -> None:
        """Another process has announced a cancel: reads before the next step is due."""
        if execution_id in self._running:
            self._announced.set()

    def stop(self) -> None:
        self._stop.set()
        self._announced.set()

    async def run(self) -> None:
        """Reads after each announcement, with a pause after each read, until `stop`."""
        while True:
            await self._announced.wait()
            if self._stop.is_set():
                return
            self._announced.clear()
            await self.step.take()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._pause)

    async def _read(self) -> None:
        if not self._running:
            return
        for execution_id in await self._recoveries.cancels_for(self._state.id):
            self._cancel(execution_id)
