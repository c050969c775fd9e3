"""Queues in which rows may be due that are to be sent to workers: what wakes the dispatcher."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.due import POLL_SECONDS, Due
from rail_async_tasks.runtime.state import RuntimeState

# After so many attempts of a queue have ended here, the dispatcher refills the queue: the process
# that created the rows looks only once a second.
REFILL = 25


class SendsDue(Due):
    """Queues in which rows may be due that are to be sent to workers."""

    def __init__(
        self,
        *,
        slots: Slots,
        state: RuntimeState,
        pauses: Pauses,
        poll_seconds: float = POLL_SECONDS,
        longest_poll: Callable[[], float] = lambda: POLL_SECONDS,
    ) -> None:
        super().__init__(state=state, poll_seconds=poll_seconds, longest_poll=longest_poll)
        self._slots = slots
        self._pauses = pauses
        self.queues: set[str] = set()
        self._ended: Counter[str] = Counter()  # by queue: attempts since it was refilled
        # Delayed rows may have come due since the dispatcher last made such rows due.
        self.stages = True

    def expect(self, name: str, queue: str) -> None:
        self._slots.know(queue)
        if queue not in self._slots.stopped:
            self.queues.add(queue)
            self._wake.set()

    def slot_freed(self, queue: str) -> None:
        """Counts an ended attempt; after `REFILL` of them has the queue refilled."""
        self._ended[queue] += 1
        if self._ended[queue] >= REFILL:
            del self._ended[queue]
            self.expect("", queue)

    def expect_all(self) -> None:
        self.stages = True
        self.queues.update(self._slots.queues())
        self.queues -= self._slots.stopped

    def expect_in(self, queue: str) -> None:
        self.expect("", queue)

    def refilled(self, queue: str) -> None:
        """The queue's rate may have a token again."""
        self._slots.refill(queue)
        self.expect("", queue)

    @property
    def any_due(self) -> bool:
        return bool(self.queues) or self._pauses.outdated
