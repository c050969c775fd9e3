"""The ledger port: reads and changes of executions, as small protocols. More are in `upkeep`.

A service of the runtime takes the smallest protocols that it uses. A whole `Ledger` is for modules
that build services or pass it on, and for those that ask it for ports that it may lack.

A ledger must hold these rules, and `tests/contract/test_ledger.py` holds every ledger to them:

* Each change is one compare-and-set: the rows that it changed are the answer, not a read before.
* A write by an attempt names its token, and changes nothing once that is not the row's token.
* `create` and `settle` call `done` on the loop after the change is durable, in any order between
  executions; nothing that was accepted is dropped while the process lives.
* A failed row fails alone: its neighbours in a batch are written all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol
from uuid import UUID

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.ledger.counts import Counts
from rail_async_tasks.ledger.optional import OptionalPorts
from rail_async_tasks.ledger.queue_states import QueueStates
from rail_async_tasks.ledger.records import (
    Cancelled,
    Claimed,
    ClaimResult,
    Created,
    CreatedMany,
    NewExecution,
    Outcome,
    Page,
    Progress,
    QueueClaim,
    Settled,
    Survey,
)
from rail_async_tasks.ledger.upkeep import Clock, Deletions, Lifecycle, Schedules
from rail_async_tasks.snapshot import TaskSnapshot

# --- for the runtime, on its loop -----------------------------------------------------------------


class Creations(Protocol):
    """New executions."""

    def create(self, new: NewExecution, done: Callable[[Created | BaseException], None]) -> None:
        """Inserts a row and calls `done` with the result, on the loop. Idempotent by id."""
        ...


class ClaimPlan(Protocol):
    """The parts of one claim, in order. Each part's result sizes the next."""

    runtime_id: UUID

    def claims(self) -> Iterator[QueueClaim]:
        """Yields the next part; `took` must be called before the next is asked for."""

    def took(self, claim: QueueClaim, count: int, /) -> None:
        """Records how many rows a part has claimed."""

    def rests(self, claim: QueueClaim, seconds: float, /) -> None:
        """Records, after `took`, that the queue's rate has its next token in so many seconds."""


class Claims(Protocol):
    """Claims by queue."""

    async def claim(self, plan: ClaimPlan) -> ClaimResult:
        """Clears `run_after` where its time has come, then claims what the plan asks for."""


class Surveys(Protocol):
    """What waits, for a process that looks again and again."""

    async def survey(self, queues: Collection[str]) -> Survey:
        """Returns in which of these queues rows are due, and the paused queues; one statement."""
        ...


class Attempts(Protocol):
    """Writes by an attempt, under its token."""

    def settle(
        self, outcome: Outcome, done: Callable[[Settled | BaseException | None], None]
    ) -> None:
        """Ends an attempt; `done` gets None if the row was no longer the attempt's."""

    def progress(self, progress: Progress) -> None:
        """Stores progress, in a while. Never blocks, never fails the caller."""


class Congestion(Protocol):
    """Back-pressure: creations and claims wait while the ledger is congested."""

    @property
    def congested(self) -> bool:
        """Returns whether more has been accepted than is written in good time."""

    async def relieved(self) -> None:
        """Returns when the ledger is not congested."""


class LoopReads(Protocol):
    """Reads that never block the loop."""

    async def reread(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        """Returns those of the executions that exist, as they stand."""
        ...

    async def changed_lately(
        self, owner_ids: Collection[str], seconds: float
    ) -> list[TaskSnapshot]:
        """Returns the owners' executions that changed in the last seconds, in order of the change.

        By the ledger's clock. At most `LedgerOptions.max_changed`, the latest ones.
        """
        ...

    async def queues(self) -> Sequence[str]:
        """Returns the queues that have waiting rows."""
        ...


# --- for the service, in the caller's thread and transaction --------------------------------------


class CallerTransaction(Protocol):
    """The database transaction that the caller may be in."""

    def in_transaction(self) -> bool:
        """Returns whether this thread is inside the caller's database transaction."""
        ...

    def create_here(self, new: NewExecution) -> Created:
        """Inserts in the caller's transaction."""
        ...

    def create_many_here(self, pages: Iterable[Sequence[NewExecution]]) -> CreatedMany:
        """Inserts all rows or none, in the caller's transaction or in one of their own.

        A page is asked for once the one before it is inserted. The pages are asked for again where
        the database could not serialize the transaction, if they can be.
        """
        ...

    def notify_here(self) -> None:
        """Has other processes look for due rows, once the caller's transaction has committed.

        Does nothing where the database carries no notices: they find the rows by polling.
        """

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Runs `callback` after the caller's transaction has committed; at once without one."""


class Reads(Protocol):
    """Executions as they stand. An expired one is hidden at once, and deleted later."""

    @property
    def blocking(self) -> bool:
        """Returns whether methods in the caller's thread do I/O: not for an event loop."""
        ...

    def get(self, execution_id: UUID) -> TaskSnapshot | None:
        """Returns the execution as it stands; None if there is none, or it has expired."""
        ...

    def get_many(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        """Returns those of the executions that `get` would return, in any order."""
        ...

    def arguments(self, execution_id: UUID) -> str | None:
        """Returns the arguments as JSON text."""
        ...

    def language(self, execution_id: UUID) -> str | None:
        """Returns the language in which the body runs; None: LANGUAGE_CODE."""
        ...

    def tracebacks(self, execution_ids: Collection[UUID]) -> dict[UUID, str]:
        """Returns the tracebacks of those of the executions that have one."""
        ...

    def page(self, page: Page) -> list[TaskSnapshot]:
        """Returns a page of executions, newest first."""
        ...

    def result_bytes(self, page: Page) -> int:
        """Returns the bytes of the results of a page as JSON, about, without reading one."""
        ...

    def ended_lately(self, owner_id: str, tenant_id: str | None, seconds: float) -> list[UUID]:
        """Returns the owner's executions, within a tenant, that ended in the last seconds.

        By the ledger's clock. At most as many as `changed_lately` returns: those that ended last.
        """
        ...

    def ping(self) -> None:
        """Raises where executions can't be read now."""
        ...


class Cancels(Protocol):
    """Cancels, in the caller's thread."""

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


class InlineAttempts(Protocol):
    """Writes by an attempt that runs inline, in its caller's thread and transaction."""

    def claim_here(
        self, execution_id: UUID, runtime_id: UUID, token: UUID, rate: RateLimit | None = None
    ) -> Claimed | None:
        """Claims one row by id, due or not; None if it does not wait or its queue is paused.

        With the rate of its queue also None if that has no token; the claim takes one.
        """

    def settle_here(self, outcome: Outcome) -> Settled | None:
        """Ends an attempt; None if the row was no longer the attempt's."""

    def progress_here(self, progress: Progress) -> None:
        """Stores progress."""


# --- all of it ------------------------------------------------------------------------------------


class Ledger(
    Lifecycle,
    Creations,
    Claims,
    Surveys,
    Attempts,
    Congestion,
    LoopReads,
    CallerTransaction,
    Reads,
    Counts,
    Cancels,
    InlineAttempts,
    Clock,
    Schedules,
    Deletions,
    QueueStates,
    OptionalPorts,
    Protocol,
):
    """All ports of one process's ledger."""
