"""The ledger port: what a runtime and the service may ask of the place where executions are kept.

A ledger must hold these, and `tests/contract/test_ledger.py` holds every ledger to them:

* Each change is one compare-and-set. What it did is told by what it changed, not by a read before.
* A write by an attempt names its token, and changes nothing once that is not the row's token.
* `create` and `settle` call `done` on the loop after the change is durable, in any order between
  executions; nothing that was accepted is dropped while the process lives.
* A failed row fails alone: its neighbours in a batch are written all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from rail_async_tasks.ledger.records import (
    Cancelled,
    Claimed,
    Created,
    Disposal,
    Due,
    Held,
    Lane,
    NewExecution,
    OnFault,
    Outcome,
    Page,
    Progress,
    Recovery,
    Settled,
    WriterState,
)
from rail_async_tasks.ledger.upkeep import Dispatches, Leases
from rail_async_tasks.snapshot import TaskSnapshot


class ClaimPlan(Protocol):
    """The lanes of one claim, in order. Told what a lane gave, it sizes the next."""

    runtime_id: UUID

    def lanes(self) -> Iterator[Lane]:
        """Yields the next lane; `took` must be called before the next is asked for."""
        ...

    def took(self, lane: Lane, count: int) -> None: ...


class Ledger(Protocol):
    """See the module's docstring for what every implementation must hold."""

    # --- for the runtime, on its loop ------------------------------------------------------------

    def start(self, on_fault: OnFault | None = None) -> None:
        """Called on the runtime's loop before anything else.

        `on_fault` is called there if an error ends a thread without which nothing is written; what
        was submitted to it is reported as failed before.
        """
        ...

    async def stop(self) -> None:
        """Writes all that was accepted, then lets go of threads and connections."""
        ...

    def create(self, new: NewExecution, done: Callable[[Created | BaseException], None]) -> None:
        """Inserts a row; `done` gets what happened, on the loop. Idempotent by id."""
        ...

    def give_up_locked(self) -> None:
        """The process ends: creations fail from now on where they would wait for a lock."""
        ...

    def abandon_locked(self) -> None:
        """Fails whatever waits for a lock, outcomes too. Nothing of it is written."""
        ...

    async def claim(self, plan: ClaimPlan) -> Due:
        """Clears `run_after` where its time has come, then claims what the plan asks for."""
        ...

    def settle(
        self, outcome: Outcome, done: Callable[[Settled | BaseException | None], None]
    ) -> None:
        """Ends an attempt; `done` gets None if the row was no longer the attempt's."""
        ...

    def progress(self, progress: Progress) -> None:
        """Keeps progress, in a while. Never blocks, never fails the caller."""
        ...

    async def cancels_for(self, runtime_id: UUID) -> Sequence[UUID]:
        """Running rows of this runtime for which a cancel was asked, perhaps elsewhere."""
        ...

    async def held_by(self, runtime_id: UUID) -> Sequence[Held]:
        """Every running row of this runtime."""
        ...

    async def recover(self, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        """Frees at most so many executions of a dead holder; they count a crash each.

        Returns them as they stand then: retrying, failed or cancelled. What somebody else has
        locked is left out.
        """
        ...

    async def now(self) -> datetime:
        """The ledger's clock, in UTC."""
        ...

    async def schedule(self, name: str, since: datetime) -> None:
        """Makes a schedule known, whose ticks count from then on; one that is known stays."""
        ...

    async def tick(self, name: str, at: datetime, new: NewExecution) -> Created | None:
        """Takes a schedule's tick and creates its execution, un-held, in one transaction.

        None where that tick, or a later one, was taken before.
        """
        ...

    async def set_back(self, name: str, latest: datetime, to: datetime) -> bool:
        """Sets the last tick of a schedule back that lies beyond the latest it may be.

        Whether it did.
        """
        ...

    async def correct_times(self, ttl: float | None, hold: float) -> int:
        """Corrects times that were stored while the clock was ahead; returns of how many rows.

        What such a row waits for is put off for as long as was meant, from now on. `ttl` is how
        long finished rows are kept, `hold` the longest reservation of a failure callback. Seconds.
        """
        ...

    async def unknown_names(self, known: Collection[str]) -> set[str]:
        """The names under which executions wait that neither `known` has nor a live runtime."""
        ...

    async def fail_unknown(
        self, name: str, ttl: float | None, callback: float | None, limit: int
    ) -> list[TaskSnapshot]:
        """Fails at most so many executions that wait under this name; as they stand then.

        Leaves out what another transaction has locked, for a later call.
        """
        ...

    async def overdue_callbacks(
        self, hold: float, limit: int, besides: Collection[UUID]
    ) -> list[tuple[TaskSnapshot, str | None]]:
        """Takes over failure callbacks whose time to be made has passed, for `hold` seconds.

        With their tracebacks. Those `besides` are being made by who asks.
        """
        ...

    async def keep_callbacks(self, execution_ids: Collection[UUID], hold: float) -> None:
        """They wait here, or are being made: nobody else may make them for `hold` seconds."""
        ...

    async def callbacks_made(self, execution_ids: Collection[UUID]) -> set[UUID]:
        """They have been made, once and for all. Returns those whose rows are locked: ask again."""
        ...

    async def queues(self) -> Sequence[str]:
        """The queues that have waiting rows."""
        ...

    async def reread(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        """Those of the executions that there are, as they stand."""
        ...

    async def changed_lately(
        self, owner_ids: Collection[str], seconds: float
    ) -> list[TaskSnapshot]:
        """The owners' executions that were changed in the last so many seconds, by the ledger's
        clock, in order of the change.

        At most a thousand or so: what was changed last.
        """
        ...

    async def delete_events(self, days: float, limit: int) -> int:
        """Deletes at most so many audit rows that are older; returns how many."""
        ...

    async def delete_expired(self, limit: int) -> int:
        """Deletes at most so many expired executions, in one transaction; returns how many.

        What another process is deleting is left to it, without waiting.
        """
        ...

    def dispatches(self) -> Dispatches | None:
        """What is on its way to workers; None where rows are in this process's memory."""
        ...

    def leases(self) -> Leases | None:
        """Where leases are kept, for a thread of its own; None where there is but one process."""
        ...

    def writers(self) -> Sequence[WriterState]:
        """The threads that write for this process. May be called in any thread."""
        ...

    @property
    def congested(self) -> bool:
        """Whether more has been accepted than is written in good time."""
        ...

    async def relieved(self) -> None:
        """Returns when the ledger is not congested."""
        ...

    # --- for the service, in the caller's thread and transaction ---------------------------------

    def in_transaction(self) -> bool:
        """Whether this thread is inside the caller's database transaction."""
        ...

    def create_here(self, new: NewExecution) -> Created:
        """Inserts in the caller's transaction."""
        ...

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Runs `callback` after the caller's transaction has committed; at once without one."""
        ...

    def get(self, execution_id: UUID) -> TaskSnapshot | None:
        """The execution as it stands; None if there is none, or it has expired."""
        ...

    def get_many(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]: ...

    def arguments(self, execution_id: UUID) -> str | None:
        """The arguments as JSON text."""
        ...

    def page(self, page: Page) -> list[TaskSnapshot]: ...

    def ended_lately(self, owner_id: str, tenant_id: str | None, seconds: float) -> list[UUID]:
        """The owner's executions, within a tenant, that ended in the last so many seconds.

        By the ledger's clock. At most as many as `changed_lately` returns: those that ended last.
        """
        ...

    def count_waiting(self, owner_id: str | None, at_most: int) -> int:
        """How many executions wait, delayed and retrying ones included: the owner's, or all.

        Counts no further than `at_most`.
        """
        ...

    def nth_newest(
        self, owner_id: str | None, since: UUID, until: UUID, n: int, besides: Collection[UUID]
    ) -> UUID | None:
        """The owner's (or nobody's) `n`-th newest execution; None if it is older than `since`.

        Those from `until` on, and those in `besides`, do not count.
        """
        ...

    def cancel(
        self,
        execution_id: UUID,
        ttl: float | None,
        actor: str | None = None,
        *,
        wait: bool = True,
    ) -> Cancelled | None:
        """Cancels a waiting row, flags a running one, leaves a final one; None if there is none.

        Waits for a transaction that holds the row, in the caller's thread. Without `wait`, and
        outside of a transaction of the caller's, it raises `RowLocked` instead.
        """
        ...

    # --- for operators, in the caller's thread ---------------------------------------------------

    def ping(self) -> None:
        """Raises where executions can't be read now."""
        ...

    def dispose(self, which: Disposal, limit: int) -> int:
        """Deletes at most so many of those, in one transaction; returns how many.

        0 says that there are no more, but for those that somebody else is deleting.
        """
        ...

    def count_disposable(self, which: Disposal) -> int:
        """How many of those there are."""
        ...

    # --- for an attempt that runs inline, in the caller's thread ---------------------------------

    def settle_here(self, outcome: Outcome) -> Settled | None: ...

    def callback_made_here(self, execution_id: UUID) -> None: ...

    def progress_here(self, progress: Progress) -> None: ...

    def claim_here(self, execution_id: UUID, runtime_id: UUID, token: UUID) -> Claimed | None:
        """Claims one row by id, due or not."""
        ...

    @property
    def blocking(self) -> bool:
        """Whether the methods for the service do I/O, and so must not run on an event loop."""
        ...
