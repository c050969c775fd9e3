"""The ledger's ports for upkeep: clock, schedules, deletions, and what a ledger may lack.

A ledger may lack writers, dispatches, leases, recoveries, callbacks and an audit log: `Ledger` has
a method for each, which returns the port or None.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.ledger.dispatch_records import (
    DeliveryClaim,
    DeliveryClaimResult,
    Dispatch,
    RatedSend,
)
from rail_async_tasks.ledger.records import (
    NOTHING_KNOWN,
    Created,
    Disposal,
    Held,
    NewExecution,
    OnFault,
    Recovery,
    Renewal,
    Vitals,
    WriterState,
)
from rail_async_tasks.snapshot import TaskSnapshot


class Clock(Protocol):
    """The ledger's clock, on the runtime's loop."""

    async def now(self) -> datetime:
        """Returns the ledger's time, in UTC."""

    async def correct_times(self, ttl: float | None, hold: float) -> int:
        """Corrects times that were stored while the clock was ahead; returns of how many rows.

        Such a row then waits its intended time again, counted from now. `ttl` is how long finished
        rows are kept, `hold` the longest reservation of a failure callback. Seconds.
        """


class Schedules(Protocol):
    """Ticks of schedules: one process takes each. On the runtime's loop."""

    async def schedule(self, name: str, since: datetime) -> None:
        """Registers a schedule, whose ticks count from then on; a known one stays as it is."""

    async def tick(self, name: str, at: datetime, new: NewExecution) -> Created | None:
        """Takes a schedule's tick and creates its execution, un-held, in one transaction.

        None where that tick, or a later one, was taken before.
        """

    async def set_back(self, name: str, latest: datetime, to: datetime) -> bool:
        """Sets a last tick that lies beyond `latest` to `to`; returns whether it did.

        One whose time has come by the ledger's clock stays: since the caller looked at the clock,
        which may have been minutes ago, another process may have taken it.
        """


class Deletions(Protocol):
    """Deletes final executions."""

    async def delete_expired(self, limit: int) -> int:
        """Deletes at most so many expired executions, in one transaction; returns how many.

        On the runtime's loop. Rows that another process is deleting are left to it, without
        waiting.
        """

    def dispose(self, which: Disposal, limit: int) -> int:
        """Deletes at most so many of those, in one transaction; returns how many.

        In the caller's thread. 0 means that there are no more, but for those that another process
        is deleting.
        """

    def count_disposable(self, which: Disposal) -> int:
        """Counts those. In the caller's thread."""


# --- ports that a ledger may lack -----------------------------------------------------------------


class Writers(Protocol):
    """The threads that write for this process. Called on the runtime's loop, except `states`."""

    def give_up_locked(self) -> None:
        """Fails creations from now on where they would wait for a lock: the process ends."""

    def abandon_locked(self) -> None:
        """Fails all that waits for a lock, outcomes too. Nothing of it is written."""

    def states(self) -> Sequence[WriterState]:
        """Returns the threads' states. May be called in any thread."""


class Dispatches(Protocol):
    """Executions on their way to a worker. Called on the runtime's loop; the rows are the truth."""

    async def send(self, queue: str, backend: str, window: int, limit: int) -> list[Dispatch]:
        """Marks due executions of a queue as sent, and returns them, by priority.

        Returns at most `limit` rows. Overdue dispatches come first. New rows follow while fewer
        than `window` rows of the queue are under way. Leaves out rows that another transaction has
        locked, for a later call.
        """

    async def send_rated(self, queue: str, backend: str, rate: RateLimit, limit: int) -> RatedSend:
        """Marks due executions of a queue with a rate as sent, as many as may start by then.

        Those under way count. Takes no token: the claim does. Otherwise as `send`.
        """

    async def unsend(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        """Marks dispatches that the broker refused as not sent. Returns the locked ones: retry."""

    async def under_way(
        self, backend: str, seconds: float, after: UUID | None, limit: int
    ) -> list[Dispatch]:
        """Returns what was sent to that backend so many seconds ago or earlier, and still waits.

        The limit doubles with each earlier dispatch, up to a bound. Rows are ordered by id and
        begin after `after`.
        """

    async def release(self, execution_ids: Collection[UUID]) -> set[UUID]:
        """Marks executions that arrived where they cannot run as not sent.

        Returns those whose rows are locked: ask again.
        """

    async def claim(self, delivery: DeliveryClaim) -> DeliveryClaimResult:
        """Claims those of the executions that are due; the others are held elsewhere, or final."""

    def any_worker(self) -> bool:
        """Returns whether a process is alive that runs dispatched executions. In any thread.

        A process of a version that stored no role counts.
        """


class Leases(Protocol):
    """The rows by which processes know of each other. Used by one thread; raises DatabaseError."""

    @property
    def one_writer(self) -> bool:
        """Returns whether the database lets one process write at a time, and others wait."""

    def begin(
        self,
        runtime_id: UUID,
        names: Collection[str],
        seconds: float,
        vitals: Vitals = NOTHING_KNOWN,
        program: str = "",
    ) -> None:
        """Registers a runtime that knows these tasks: for so long it may hold executions.

        `program` is the command that runs in the process, for operators.
        """

    def renew(self, runtime_id: UUID, seconds: float, vitals: Vitals) -> Renewal:
        """Prolongs the lease by so many seconds, and reads what has become of the others.

        Stores the role anew: a process becomes a worker at its first delivery. On PostgreSQL one
        statement, as every process of a project sends it a few times in the time of a lease.
        """

    def end(self, runtime_id: UUID) -> None:
        """Marks the runtime as dead: other processes recover what it still holds."""

    def condemn(self) -> int:
        """Marks runtimes dead whose lease has lapsed; returns how many.

        Each runtime is judged by the lease length in its own row: a deploy may change the setting.
        """

    def dead_holders(self) -> set[UUID]:
        """Returns the holders of running executions that are no live runtimes."""

    def forget(self) -> None:
        """Deletes the rows of runtimes that have long been dead and hold nothing."""

    def reset(self) -> None:
        """Drops the connection; the next use opens one."""


class Recoveries(Protocol):
    """Rows that other processes change or leave behind. Called on the runtime's loop."""

    async def cancels_for(self, runtime_id: UUID) -> Sequence[UUID]:
        """Returns this runtime's running rows for which a cancel was asked, perhaps elsewhere."""

    async def held_by(self, runtime_id: UUID) -> Sequence[Held]:
        """Returns every running row of this runtime."""

    async def recover(self, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        """Frees at most so many executions of a dead holder; they count a crash each.

        Returns them as they stand then: retrying, failed or cancelled. Rows that another
        transaction has locked are left out.
        """

    async def unknown_names(self, known: Collection[str]) -> set[str]:
        """Returns names of waiting executions that neither `known` nor a live runtime has."""

    async def fail_unknown(
        self, name: str, ttl: float | None, callback_hold: float | None, limit: int
    ) -> list[TaskSnapshot]:
        """Fails at most so many executions that wait under this name; returns them.

        Leaves out what another transaction has locked, for a later call.
        """


class Callbacks(Protocol):
    """Failure callbacks: one process reserves each, for a time, and marks it as made."""

    async def take_overdue(
        self, hold: float, limit: int, besides: Collection[UUID]
    ) -> list[tuple[TaskSnapshot, str | None]]:
        """Reserves failure callbacks whose time has passed, for `hold` seconds.

        Returns them with their tracebacks. Those in `besides` the caller is making already.
        """

    async def keep(self, execution_ids: Collection[UUID], hold: float) -> None:
        """Prolongs reservations: no other process may make these callbacks for `hold` seconds."""

    async def made(self, execution_ids: Collection[UUID]) -> set[UUID]:
        """Marks callbacks as made, once and for all. Returns those whose rows are locked: retry."""

    def made_here(self, execution_id: UUID) -> None:
        """Marks one as made, in the caller's thread and transaction."""


class AuditLog(Protocol):
    """Stored audit rows. Called on the runtime's loop."""

    async def delete(self, days: float, limit: int) -> int:
        """Deletes at most so many audit rows that are older; returns how many."""


class Lifecycle(Protocol):
    """Start and end."""

    def check_tables(self) -> None:
        """Raises `TablesMissing` where the database lacks a table or column; does I/O, briefly.

        Returns where the database does not answer, as that is waited for.
        """

    def start(self, on_fault: OnFault | None = None) -> None:
        """Called on the runtime's loop before anything else.

        `on_fault` is called there if an error ends a thread without which nothing is written; the
        thread's operations are reported as failed before.
        """

    async def stop(self) -> None:
        """Writes all that was accepted, then ends the threads and closes their connections."""
