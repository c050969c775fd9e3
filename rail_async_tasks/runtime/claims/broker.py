"""The port through which the runtime sends executions to worker processes.

A backend that runs tasks in other processes is a `Broker`. The runtime is given one, and does not
know backends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from rail_async_tasks.ledger.dispatch_records import Dispatch


class Broker(Protocol):
    """Carries the ids of executions to worker processes, and nothing else. The rows are the truth.

    It may lose, double or delay them: a worker claims the row before it runs anything, and an id
    that does not arrive is sent again.
    """

    @property
    def name(self) -> str:
        """The value of the `backend` setting, as rows and log lines have it."""
        ...

    async def push(self, dispatches: Sequence[Dispatch]) -> None:
        """Hands ids to the broker. Called on the runtime's loop, which it must not block.

        Raises:
            Exception: the broker has not taken all of them; they are sent again later.
        """
        ...

    async def aclose(self) -> None:
        """Gives connections back. Called once, when the runtime ends."""
        ...


@runtime_checkable
class Inventory(Protocol):
    """The ability of some brokers to say which ids they have.

    Lost ids are then sent again within seconds, and not only once they are overdue.
    """

    async def missing(self, dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
        """Returns the dispatches that it does not have, neither waiting nor at a worker.

        Called on the loop every few seconds, with dispatches that were sent some seconds ago.

        Raises:
            Exception: the broker can't answer now; it is asked again later.
        """
        ...
