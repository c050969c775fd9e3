"""The bus within one process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.ledger.port import LoopReads
from rail_async_tasks.snapshot import TaskSnapshot, task_topic, topics

# Subscribers that get a snapshot in one turn of the publishing loop. A thousand take about 0.7 ms.
SLICE = 500


class MemoryBus:
    """See `port.Bus`. Subscribers may live on other loops than the one that publishes."""

    def __init__(self) -> None:
        self._mailboxes: dict[str, tuple[Mailbox, ...]] = {}
        self._lock = threading.Lock()
        self.published_count = 0

    def start(
        self,
        ledger: LoopReads,
        on_cancel: Callable[[UUID], None],
        on_queues: Callable[[], None],
    ) -> None:
        """Does nothing: there are no other processes."""

    async def stop(self) -> None:
        """Does nothing: there are no other processes."""

    def publish(self, snapshot: TaskSnapshot) -> None:
        self.published_count += 1
        self.deliver(snapshot)

    def announce_queues(self) -> None:
        """Does nothing: there are no other processes."""

    def deliver(self, snapshot: TaskSnapshot) -> None:
        if not self._mailboxes:
            return
        for topic in topics(snapshot):
            # A tuple that is replaced, never changed: it can be read here without the lock.
            mailboxes = self._mailboxes.get(topic)
            if mailboxes is None:
                continue
            if len(mailboxes) > SLICE:
                self._deliver_in_slices(mailboxes, snapshot)
            else:
                for mailbox in mailboxes:
                    mailbox.put(snapshot)

    def _deliver_in_slices(self, mailboxes: tuple[Mailbox, ...], snapshot: TaskSnapshot) -> None:
        # Slices of two snapshots may interleave: a mailbox keeps the newer of the two.
        for mailbox in mailboxes[:SLICE]:
            mailbox.put(snapshot)
        rest = mailboxes[SLICE:]
        if not rest:
            return
        try:
            asyncio.get_running_loop().call_soon(self._deliver_in_slices, rest, snapshot)
        except RuntimeError:  # in a thread there is no loop to spare
            self._deliver_in_slices(rest, snapshot)

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncIterator[Mailbox]:
        each = set(topics)
        mailbox = Mailbox(len(each))
        with self._lock:
            for topic in each:
                self._mailboxes[topic] = (*self._mailboxes.get(topic, ()), mailbox)
        try:
            yield mailbox
        finally:
            with self._lock:
                for topic in each:
                    self._leave(topic, mailbox)

    def _leave(self, topic: str, mailbox: Mailbox) -> None:
        left = tuple(other for other in self._mailboxes[topic] if other is not mailbox)
        if left:
            self._mailboxes[topic] = left
        else:
            del self._mailboxes[topic]

    def watched(self) -> list[str]:
        return list(self._mailboxes)

    def is_watched(self, topic: str) -> bool:
        return topic in self._mailboxes

    def end(self, execution_id: UUID) -> None:
        for mailbox in self._mailboxes.get(task_topic(execution_id), ()):
            mailbox.end_one()

    def close_mailboxes(self) -> None:
        with self._lock:
            mailboxes = [mailbox for group in self._mailboxes.values() for mailbox in group]
        for mailbox in mailboxes:
            mailbox.close()

    @property
    def connected(self) -> bool:
        return True

    def statistics(self) -> dict[str, int]:
        return {
            "subscribers": len({it for group in self._mailboxes.values() for it in group}),
            "published": self.published_count,
        }
