"""The ledger's clock, which all processes have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from rail_async_tasks.runtime.upkeep.clock import boottime

# Seconds between two reads of the ledger's clock.
READ_EVERY_SECONDS = 60.0


class LedgerClock:
    """Returns the ledger's time, read once a minute; in between a steady clock counts.

    Args:
        read: returns the ledger's time; None if it can't be had.
        clock: returns seconds that pass also while the machine sleeps.
        start: the time until the first read has succeeded; by default this machine's.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[datetime | None]],
        *,
        read_every: float = READ_EVERY_SECONDS,
        clock: Callable[[], float] = boottime,
        start: datetime | None = None,
    ) -> None:
        self._read = read
        self._read_every = read_every
        self._clock = clock
        self._shown = datetime.now(UTC) if start is None else start
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    async def now(self) -> datetime:
        """Returns the time, in UTC."""
        async with self._reading:
            if self._read_at is None or self._clock() - self._read_at > self._read_every:
                shown = await self._read()
                if shown is not None:
                    self._shown, self._read_at = shown, self._clock()
        passed = 0.0 if self._read_at is None else self._clock() - self._read_at
        return self._shown + timedelta(seconds=passed)
