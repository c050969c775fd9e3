"""Queues with a rate, in one process: when each may start something again, and whose turn it is.

The tokens are in the ledger, which all processes share. A queue without one rests here until the
time at which the ledger expects the next: no claim asks for it meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.runtime.claims.slots import Slots

# Bounds of a rest, in seconds. The shortest bounds the claims of a queue with a high rate, whose
# tokens of that time are then taken together. The longest: a rate that was raised, or a clock that
# was set back, is noticed.
SHORTEST_REST = 0.025
LONGEST_REST = 30.0
# A timer that is early by less finds no token.
MARGIN = 0.001

# The last starts of a queue, by which its owners take turns.
REMEMBERED = 64


class Rates:
    """On the runtime's loop.

    Args:
        refilled: is called with a queue at the end of its rest.
    """

    def __init__(self, *, slots: Slots, refilled: Callable[[str], None]) -> None:
        self._slots = slots
        self._refilled = refilled
        self._loop = asyncio.get_running_loop()
        self._starts: dict[str, deque[str]] = {
            queue: deque(maxlen=REMEMBERED) for queue in slots.rates
        }

    def rest(self, queue: str, seconds: float) -> None:
        """Lets nothing of the queue start for so many seconds, within bounds."""
        self._slots.rest(queue)
        pause = min(max(seconds + MARGIN, SHORTEST_REST), LONGEST_REST)
        self._loop.call_later(pause, self._refilled, queue)

    def started(self, claimed: Iterable[Claimed]) -> None:
        """Remembers whose executions of such queues were claimed."""
        for it in claimed:
            starts = self._starts.get(it.snapshot.queue)
            if starts is not None:
                starts.append(it.snapshot.owner_id or "")

    def turns(self, queue: str, running: Mapping[str, int]) -> dict[str, int]:
        """Returns the latest starts of each owner in place of what runs, which may be none.

        For a queue without a rate, what runs.
        """
        starts = self._starts.get(queue)
        return dict(running) if starts is None else dict(Counter(starts))
