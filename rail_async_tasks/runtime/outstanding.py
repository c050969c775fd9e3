"""Writes that the ledger has not answered yet: the end of the process waits for them."""

from __future__ import annotations

import asyncio
import contextlib


class Outstanding:
    """Counts creations and outcomes that are on their way, and signals each change."""

    __slots__ = ("_changed", "creations", "outcomes")

    def __init__(self) -> None:
        self.creations = 0
        self.outcomes = 0
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Wakes the waiters: a write was answered, or an attempt has ended."""
        self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Returns at the next change, or after so many seconds."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)
