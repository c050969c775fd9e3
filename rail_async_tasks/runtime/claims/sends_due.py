"""Queues in which rows may be due that are to be sent to workers: what wakes the dispatcher."""

from __future__ import annotations

from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.due import POLL_SECONDS, Due
from rail_async_tasks.runtime.state import RuntimeState

# After `REFILL` attempts have ended here, the dispatcher refills each queue to which it has sent
# rows in the last `RECENT_SECONDS`.
REFILL = 25
RECENT_SECONDS = 2.0


class SendsDue(Due):
    """Queues in which rows may be due that are to be sent to workers."""

    def __init__(
        self,
        *,
        slots: Slots,
        state: RuntimeState,
        pauses: Pauses,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        super().__init__(state=state, poll_seconds=poll_seconds)
        self._slots = slots
        self._pauses = pauses
        self.queues: set[str] = set()
        self._sent_at: dict[str, float] = {}  # by queue: when some were last sent
        self._ended = 0  # attempts, since the windows were filled up
        # Delayed rows may have come due since the dispatcher last made such rows due.
        self.stages = True

    def expect(self, name: str, queue: str) -> None:
        self._slots.know(queue)
        if queue not in self._slots.stopped:
            self.queues.add(queue)
            self._wake.set()

    def slot_freed(self) -> None:
        """Counts an ended attempt; every `REFILL` of them has recently used queues refilled."""
        self._ended += 1
        if self._ended >= REFILL:
            self._ended = 0
            since = self._loop.time() - RECENT_SECONDS
            self.queues.update(queue for queue, at in self._sent_at.items() if at >= since)
            self._wake.set()

    def sent(self, queue: str) -> None:
        """Notes that rows of the queue were sent now."""
        self._sent_at[queue] = self._loop.time()

    def expect_all(self) -> None:
        self.stages = True
        self.queues.update(self._slots.queues())
        self.queues -= self._slots.stopped

    def refilled(self, queue: str) -> None:
        """The queue's rate may have a token again."""
        self._slots.refill(queue)
        self.expect("", queue)

    @property
    def any_due(self) -> bool:
        return bool(self.queues) or self._pauses.outdated
