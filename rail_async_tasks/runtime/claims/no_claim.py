"""The claim of a process that runs nothing itself: it makes delayed rows due, and takes none."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from rail_async_tasks.ledger.records import QueueClaim


class NoClaim:
    """A claim that takes no row. See `ledger.port.ClaimPlan`."""

    def __init__(self, runtime_id: UUID) -> None:
        self.runtime_id = runtime_id

    def claims(self) -> Iterator[QueueClaim]:
        return iter(())

    def took(self, claim: QueueClaim, count: int) -> None:
        """Never called, as there is no part."""

    def rests(self, claim: QueueClaim, seconds: float) -> None:
        """Never called, as there is no part."""
