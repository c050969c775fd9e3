"""The port through which the runtime sends executions to worker processes.

A backend that runs tasks in other processes is a `Broker`. The runtime is given one, and does not
know backends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from rail_async_tasks.ledger.records import Dispatch


class Broker(Protocol):
    """Carries the ids of executions to worker processes, and nothing else. The rows are the truth.

    It may lose them, bring them twice or late: a worker claims the row before it runs anything, and
    what does not arrive is sent again.
    """

    @property
    def name(self) -> str:
        """As the rows tell it: that of the `backend` setting."""
        ...

    async def push(self, dispatches: Sequence[Dispatch]) -> None:
        """Hands them to the broker. Called on the runtime's loop, which it must not block.

        Raises:
            Exception: the broker has not taken all of them; they are sent again, in a while.
        """
        ...

    async def aclose(self) -> None:
        """Gives connections back. Called once, when the runtime ends."""
        ...


@runtime_checkable
class Inventory(Protocol):
    """What a broker may do besides: tell what it has. Then what it has lost is sent again at once,
    and not when it has been under way for too long.
    """

    async def missing(self, dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
        """Those of the dispatches that it does not have, neither waiting nor at a worker.

        Called on the runtime's loop every few seconds, with what has been under way for a while.

        Raises:
            Exception: it can't tell now; it is asked again.
        """
        ...
