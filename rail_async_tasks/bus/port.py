"""The port of the bus."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.ledger.port import LoopReads
from rail_async_tasks.snapshot import TaskSnapshot


class Bus(Protocol):
    """Carries snapshots from the code that changed an execution to its watchers.

    `publish` is a plain call that never blocks, never raises and may be made from any thread. A
    subscriber gets what was published after `subscribe` was entered; of several snapshots of one
    execution that it has not read yet it gets the latest.
    """

    def start(
        self,
        ledger: LoopReads,
        on_cancel: Callable[[UUID], None],
        on_queues: Callable[[], None],
    ) -> None:
        """Begins to exchange events with other processes, on the running loop of a runtime.

        `ledger` is read to follow their events. `on_cancel` is called on the loop when another
        process has published a cancel request; its row has to confirm it. `on_queues` is called on
        the loop when another process has paused or resumed a queue.
        """
        ...

    async def stop(self) -> None:
        """Sends the waiting events, for a moment at most, and ends what `start` began."""
        ...

    def publish(self, snapshot: TaskSnapshot) -> None:
        """Sends a changed execution to its watchers, in this process and in others."""
        ...

    def announce_queues(self) -> None:
        """Announces to other processes that a queue was paused or resumed. As `publish`."""
        ...

    def deliver(self, snapshot: TaskSnapshot) -> None:
        """Sends a snapshot to the watchers in this process alone."""
        ...

    def subscribe(self, *topics: str) -> AbstractAsyncContextManager[Mailbox]:
        """Returns a context manager that yields the subscriber's mailbox, one for all topics."""
        ...

    def watched(self) -> list[str]:
        """Returns the topics that have subscribers in this process."""
        ...

    def end(self, execution_id: UUID) -> None:
        """Ends the subscriptions to an execution whose row is gone; other topics of theirs stay."""
        ...

    def close_mailboxes(self) -> None:
        """Ends every subscription: the process is going away."""
        ...

    @property
    def connected(self) -> bool:
        """True if an event that is published now reaches the other processes, if there are any."""
        ...

    def statistics(self) -> dict[str, int]:
        """Returns counts since the start of the process, for metrics and tests."""
        ...
