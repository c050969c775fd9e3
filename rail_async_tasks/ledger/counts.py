"""The ledger port: counts for admission."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol
from uuid import UUID


class Counts(Protocol):
    """Counts for admission, in the caller's thread."""

    def count_waiting(self, owner_id: str | None, at_most: int) -> int:
        """Counts waiting executions, delayed and retrying ones included: the owner's, or all.

        Counts no further than `at_most`.
        """
        ...

    def nth_newest(
        self, owner_id: str | None, since: UUID, until: UUID, n: int, besides: Collection[UUID]
    ) -> UUID | None:
        """Returns the owner's `n`-th newest execution; None if it is older than `since`.

        The owner None has the executions without one. Those from `until` on, and those in
        `besides`, do not count.
        """
        ...

    def unfinished(self, execution_ids: Collection[UUID]) -> dict[UUID, str]:
        """Returns the statuses of those of the executions that have not ended."""
        ...
