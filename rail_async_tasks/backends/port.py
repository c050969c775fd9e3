"""The backend port."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import msgspec

from rail_async_tasks.ledger.records import Created, NewExecution
from rail_async_tasks.snapshot import TaskSnapshot


class Capabilities(msgspec.Struct, frozen=True):
    """What a backend can do. A declaration or setting that asks for more is an error of the checks.

    Attributes:
        priority: of what waits in a queue, that with the higher priority starts first.
        queue_priority: of the queues, that with the higher priority comes first.
        queue_concurrency: `queues[...]["concurrency"]` is kept.
        cancel_running: a body that runs is told of a cancel; otherwise it runs to its end.
    """

    priority: bool = True
    queue_priority: bool = True
    queue_concurrency: bool = True
    cancel_running: bool = True


class Backend(Protocol):
    """Sees to it that an execution runs. It carries ids; the row is the truth.

    `inline` says that `submit` runs the execution to its end, in the caller's transaction if there
    is one; otherwise the service writes the row of a caller in a transaction, and calls `arrived`
    after the commit.
    """

    inline: bool
    capabilities: Capabilities

    async def asubmit(self, new: NewExecution) -> TaskSnapshot:
        """Stores the execution and returns it as it stands at its creation.

        With a unique key that an unfinished execution has, that one is returned instead.
        """
        ...

    def submit(self, new: NewExecution) -> TaskSnapshot:
        """`asubmit` for a thread that has no running event loop."""
        ...

    def arrived(self, new: NewExecution, created: Created) -> None:
        """The caller's transaction, which has inserted the row, is committed. In any thread."""
        ...

    def cancel(self, execution_id: UUID) -> None:
        """Tells whoever runs it that a cancel has been asked for; the row says so already."""
        ...
