"""The identity and the phase of this process's runtime. No I/O; changed on its loop only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.ids import new_id

if TYPE_CHECKING:
    import anyio


class RuntimeState:
    """Shared by the services of one runtime, which read it.

    `Runtime`, `Leasing`, `Ending` and `hosting.server` change it.
    """

    __slots__ = (
        "abandoned",
        "draining",
        "fault",
        "fences",
        "holding",
        "host",
        "id",
        "scope",
        "under_server",
    )

    def __init__(self) -> None:
        # The id of the current lease. Changes when the next lease begins: until then it is the id
        # of the lease that was lost. A dead id never comes back.
        self.id: UUID = new_id()
        # Executions may be held under `id`.
        self.holding = False
        # Nothing new is taken any more.
        self.draining = False
        # The loop is a server's, which drains the runtime before it shuts the loop down. If the
        # loop is shut down without a drain, no more outcomes are stored: other processes recover
        # the executions that ran here, and each of them counts a crash.
        self.under_server = False
        # The error that has ended one of our threads or the start; None while all is well.
        self.fault: BaseException | None = None
        # Outcomes are stored no longer: what ran is lost, and recovered by others.
        self.abandoned = False
        # Leases that were lost.
        self.fences = 0
        # The task that hosts the services, and the scope that it runs them in.
        self.host: asyncio.Task[None] | None = None
        self.scope: anyio.CancelScope | None = None

    def leased(self, runtime_id: UUID) -> None:
        """Begins to hold executions under this id."""
        self.id = runtime_id
        self.holding = True

    def fenced(self, runtime_id: UUID) -> bool:
        """Stops holding under this id; returns whether it is the current one."""
        if runtime_id != self.id:
            return False
        self.holding = False
        self.fences += 1
        return True

    def fail(self, error: BaseException) -> None:
        """Keeps the first error that has ended the runtime."""
        if self.fault is None:
            self.fault = error

    @property
    def is_ending(self) -> bool:
        """Returns whether the runtime goes away: by a drain, or because its loop is shut down."""
        return self.draining or (self.host is not None and self.host.cancelling() > 0)

    @property
    def is_cut_off(self) -> bool:
        """Returns whether a server's loop is being shut down without the drain that it owes us.

        The host may not have had its turn yet. A group that one of its own tasks has broken cancels
        the host too, and cuts nothing off.
        """
        if not self.under_server or self.draining:
            return False
        broken = self.scope is not None and self.scope.cancel_called
        return self.host is not None and self.host.cancelling() > 0 and not broken

    @property
    def drops_outcomes(self) -> bool:
        """Returns whether outcomes are no longer stored: others recover what ran here."""
        return self.abandoned or self.is_cut_off

    def refusal(self) -> BackendUnavailable:
        """Returns the error for new work that comes too late."""
        if self.fault is None:
            return BackendUnavailable("This process is shutting down.")
        refusal = BackendUnavailable(
            "The task runtime of this process has ended by an error, which the log has. Try again."
        )
        refusal.__cause__ = self.fault
        return refusal
