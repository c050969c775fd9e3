"""Writes what this process has counted into the roll-ups, a few times a minute."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import msgspec

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.ledger.rollups import CommitUnknown, Rollups
from rail_async_tasks.runtime.rollups import RollupCounter
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

logger = get_logger("rail_async_tasks.runtime")


class RollupTimings(msgspec.Struct, frozen=True, kw_only=True):
    """When counts are written, in seconds."""

    # A process that is killed loses the counts of this time at most, and no task. A write is one
    # statement of a few milliseconds; without counts there is none.
    interval: float = 15.0
    jitter: float = 0.25  # a share: processes that were started together must not write together
    # Another process had a row locked: it is over in milliseconds.
    locked_pause: float = 0.5
    # The last write, as the process ends.
    last_timeout: float = 2.0


class RollupWriter:
    """Takes the counts of a process and adds them to the ledger's, until `stop`.

    Args:
        uniform: returns a random number between its two arguments.
    """

    def __init__(
        self,
        *,
        rollups: Rollups,
        counter: RollupCounter,
        timings: RollupTimings = RollupTimings(),  # noqa: B008 (frozen)
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._rollups = rollups
        self._counter = counter
        self._timings = timings
        self._uniform = uniform
        self._stop = asyncio.Event()
        self._backoff = Backoff(
            "Statistics could not be written", "They are written later", log=logger
        )

    def stop(self) -> None:
        self._stop.set()

    def open(self) -> None:
        """Has this process count."""
        self._counter.open()

    async def run(self) -> None:
        """Writes until `stop`."""
        times = self._timings
        while not self._stop.is_set():
            await self._pause(times.interval * self._uniform(1 - times.jitter, 1 + times.jitter))
            while not self._stop.is_set() and not await self.write():
                await self._pause(times.locked_pause * self._uniform(0.5, 1.5))

    async def write(self) -> bool:
        """Writes what was counted; returns False where another process has a row locked.

        Counts that could not be written are kept, but not those of a batch that may be stored: its
        COMMIT went unanswered, or this call was cancelled. Written again it might count twice.
        """
        batch = self._counter.take()
        if not batch:
            return True
        try:
            added = await self._rollups.add(batch)
        except CommitUnknown as error:
            self._backoff.failed("a COMMIT was not answered, its counts are dropped", error)
            return True
        except Exception as error:
            self._counter.put_back(batch)
            self._backoff.failed(describe(error), error)
            return True  # in a while
        if not added:
            self._counter.put_back(batch)
            return False
        self._backoff.recovered()
        return True

    async def close(self) -> None:
        """Ends the count and writes what is left. Called after the last outcome is stored.

        Gives up after a while: nothing depends on it.
        """
        self._counter.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.last_timeout):
                # Another process may have a row locked, for milliseconds.
                while not await self.write():  # noqa: ASYNC110
                    await asyncio.sleep(self._uniform(0.0, 0.05))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
