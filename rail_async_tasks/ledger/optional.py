"""The ports that a ledger may lack: each method returns one, or None."""

from __future__ import annotations

from typing import Protocol

from rail_async_tasks.ledger.notices import Notices
from rail_async_tasks.ledger.rollups import Rollups
from rail_async_tasks.ledger.upkeep import (
    AuditLog,
    Callbacks,
    Dispatches,
    Leases,
    Recoveries,
    Writers,
)


class OptionalPorts(Protocol):
    """Ports of one process's ledger, where it has them."""

    def writers(self) -> Writers | None:
        """The threads that write; None where a change is made in the call."""
        ...

    def dispatches(self) -> Dispatches | None:
        """Dispatches to workers; None where rows are in this process's memory."""
        ...

    def leases(self) -> Leases | None:
        """Leases, for a thread of its own; None where there is but one process."""
        ...

    def recoveries(self) -> Recoveries | None:
        """Rows that other processes change or leave behind; None where there is but one process."""
        ...

    def callbacks(self) -> Callbacks | None:
        """Reserved failure callbacks; None where they are lost with the process, as its rows."""
        ...

    def notices(self) -> Notices | None:
        """Notices of other processes; None where the database carries none."""
        ...

    def audit_log(self) -> AuditLog | None:
        """Stored audit rows; None where none are stored."""
        ...

    def rollups(self) -> Rollups | None:
        """Counts for charts; None where no process could read them, or the database can't add."""
        ...
