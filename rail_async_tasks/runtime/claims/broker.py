"""The seam by which the runtime gets executions to workers and from a broker.

A backend that runs tasks in other processes is a `Broker`. The runtime does not know backends:
their package registers how to find the broker that the settings name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from rail_async_tasks.conf import TaskSettings
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


Finder: TypeAlias = Callable[[TaskSettings], Broker | None]

_finder: Finder | None = None


def register(finder: Finder) -> None:
    """Has `finder` asked for the broker of the settings; None where tasks run in this process."""
    global _finder
    _finder = finder


def broker_for(settings: TaskSettings) -> Broker | None:
    """The broker that the settings name, if they name one.

    Raises:
        ConfigurationError: it can't be had, for example for want of a package.
    """
    return None if _finder is None else _finder(settings)
