"""The paused queues as this process knows them: read again before they are out of date."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection

from rail_async_tasks.ledger.queue_states import PausedQueues

# Nothing starts by knowledge that is older, in seconds. While there is work the reconciler reads
# once a second, so that claims rarely wait for a read of their own; the promise to users is 2 s.
MAX_AGE_SECONDS = 1.5


class Pauses:
    """Reads the paused queues. On the runtime's loop.

    Args:
        hold: is called with the paused queues when they have changed.
    """

    def __init__(
        self,
        *,
        reads: PausedQueues,
        hold: Callable[[frozenset[str]], None],
        max_age: float = MAX_AGE_SECONDS,
    ) -> None:
        self._reads = reads
        self._hold = hold
        self.max_age = max_age
        self._clock = asyncio.get_running_loop().time
        self._lock = asyncio.Lock()
        self._changes = 0
        self._good_until = -math.inf
        self.queues: frozenset[str] = frozenset()
        # A change was announced and is not read yet: the dispatcher has something to do.
        self.outdated = False

    @property
    def known(self) -> bool:
        """Returns whether `queues` is recent enough to start executions by."""
        return self._clock() < self._good_until

    def changed(self) -> None:
        """A queue was paused or resumed: what is known is out of date."""
        self._changes += 1
        self._good_until = -math.inf
        self.outdated = True

    async def read(self) -> None:
        """Reads the paused queues. Raises the ledger's errors."""
        async with self._lock:
            await self._read()

    async def up_to_date(self) -> None:
        """Returns when `queues` is recent; reads it where it is not. Raises the ledger's errors."""
        if self.known:
            return
        async with self._lock:
            while not self.known:
                changes = self._changes
                await self._read()
                if changes == self._changes:
                    return  # recent, also where the read took longer than it stays known

    async def _read(self) -> None:
        learn = self.ask()
        learn(await self._reads.paused_queues())

    def ask(self) -> Callable[[Collection[str]], None]:
        """Returns what takes the answer, the paused queues, of a read that begins now."""
        asked_at, changes = self._clock(), self._changes

        def learn(paused: Collection[str]) -> None:
            queues = frozenset(paused)
            if changes == self._changes:
                self._good_until = asked_at + self.max_age
                self.outdated = False
            if queues != self.queues:
                self.queues = queues
                self._hold(queues)

        return learn
