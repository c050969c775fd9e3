"""The bus port."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.events import TaskSnapshot


class Bus(Protocol):
    """Carries snapshots from whoever changed an execution to whoever watches it.

    `publish` is a plain call that never blocks, never raises and may be made from any thread. A
    subscriber gets what was published after `subscribe` was entered; of several snapshots of one
    execution that it has not read yet it gets the latest.
    """

    def publish(self, snapshot: TaskSnapshot) -> None: ...

    def subscribe(self, topic: str) -> AbstractAsyncContextManager[Mailbox]: ...

    def watched(self) -> list[str]:
        """The topics that somebody in this process listens to."""
        ...

    def end(self, execution_id: UUID) -> None:
        """Ends the subscriptions to one execution: there is nothing more to hear of it."""
        ...

    def close_mailboxes(self) -> None:
        """Ends every subscription: the process is going away."""
        ...

    @property
    def connected(self) -> bool:
        """Whether what is published now gets to other processes, where there are any."""
        ...

    def statistics(self) -> dict[str, int]: ...
