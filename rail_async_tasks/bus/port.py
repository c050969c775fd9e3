"""The bus port."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.snapshot import TaskSnapshot


class Bus(Protocol):
    """Carries snapshots from whoever changed an execution to whoever watches it.

    `publish` is a plain call that never blocks, never raises and may be made from any thread. A
    subscriber gets what was published after `subscribe` was entered; of several snapshots of one
    execution that it has not read yet it gets the latest.
    """

    def start(self, ledger: Ledger, on_cancel: Callable[[UUID], None]) -> None:
        """A runtime lives from now on, in the running loop: begins to hear of other processes.

        Their news are followed by reading `ledger`. `on_cancel` is called on the loop when another
        process says that it has asked for an execution's cancel; whether it has, the row tells.
        """
        ...

    async def stop(self) -> None:
        """The runtime ends: tells others what they have not been told, for a moment at most."""
        ...

    def publish(self, snapshot: TaskSnapshot) -> None: ...

    def deliver(self, snapshot: TaskSnapshot) -> None:
        """`publish` to the subscribers in this process alone: others read the row themselves."""
        ...

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
