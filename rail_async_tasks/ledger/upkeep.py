"""The ledger's ports for a runtime's own services: leases, and dispatches to a broker."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from rail_async_tasks.ledger.records import (
    Brought,
    Dispatch,
    Wanted,
)


class Dispatches(Protocol):
    """What is on its way to a worker. Called on the runtime's loop; the rows are the truth."""

    async def send(self, queue: str, backend: str, window: int, limit: int) -> list[Dispatch]:
        """Marks due executions of a queue as sent, and returns them, what matters most first.

        Leaves out what another transaction has locked, for a later call.
        At most `limit`; of those that were not sent before, as many as leave no more than `window`
        of the queue under way. Before them come those that have been under way for too long.
        """
        ...

    async def unsend(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        """The broker did not take them. Returns those whose rows are locked: ask again."""
        ...

    async def under_way(
        self, backend: str, seconds: float, after: UUID | None, limit: int
    ) -> list[Dispatch]:
        """What was sent to that backend so many seconds ago or earlier, and still waits.

        What was sent oftener, some times longer ago. In the order of their ids, from `after` on.
        """
        ...

    async def release(self, execution_ids: Collection[UUID]) -> set[UUID]:
        """They arrived where they cannot run: they are to be sent again.

        Returns those whose rows are locked: ask again.
        """
        ...

    async def claim(self, wanted: Wanted) -> Brought:
        """Claims those of the executions that are due; the others are somebody else's, or ended."""
        ...


class Leases(Protocol):
    """The rows by which processes know of each other. Used by one thread; raises DatabaseError."""

    @property
    def one_writer(self) -> bool:
        """Whether the database lets one process write at a time, and others wait."""
        ...

    def begin(self, runtime_id: UUID, names: Collection[str], seconds: float) -> None:
        """Registers a runtime that knows these tasks: for so long it may hold executions."""
        ...

    def renew(self, runtime_id: UUID, seconds: float) -> bool:
        """Whether the lease goes on, for so long; False once the runtime was found dead."""
        ...

    def left(self, runtime_id: UUID) -> float | None:
        """Seconds until the lease lapses, by the ledger's clock; None where there is none."""
        ...

    def end(self, runtime_id: UUID) -> None:
        """The runtime is no more: what it still holds is for others."""
        ...

    def condemn(self) -> int:
        """Marks those dead that have been silent for their lease; how many they were.

        For theirs, not for the caller's: a release may bring another `lease_seconds`.
        """
        ...

    def orphaned(self) -> set[UUID]:
        """The holders of running executions that are no live runtimes."""
        ...

    def forget(self) -> None:
        """Deletes the rows of runtimes that have long been dead and hold nothing."""
        ...

    def reset(self) -> None:
        """Drops the connection; the next use opens one."""
        ...
