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
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias
from uuid import UUID

import msgspec
from django.db import OperationalError

from rail_async_tasks.events import TaskSnapshot
from rail_async_tasks.states import FINAL, Status


class RowLocked(OperationalError):
    """Another transaction holds the row, or the unique key, that a change needs."""

    def __init__(self) -> None:
        super().__init__("Another transaction holds the task's row or its unique key.")


# The holder of what runs inline, in its caller's thread and transaction. It has no lease, so what a
# process that died leaves behind is taken for an orphan only after `INLINE_SECONDS`.
INLINE_HOLDER = UUID(int=1)
INLINE_SECONDS = 86400.0

# A time that was stored with the ledger's clock, and is further ahead of it than this, was stored
# while the clock was ahead. Processes on one SQLite file may differ by a little.
TOLERANCE = timedelta(seconds=60)
# Nothing in a pending row says whether it waits for a delay or for a time of day. It is taken for a
# delay where the clock was ahead by more than this; else it begins late, by no more than this.
LONGEST_DELAY_LATE = timedelta(days=1)


class NewExecution(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row to insert. With a `token` it is inserted as running: that commit is the claim.

    `arguments` is a JSON object as text; `delay` is in seconds, by the ledger's own clock.
    """

    id: UUID
    name: str
    queue: str
    priority: int
    arguments: str
    max_retries: int
    owner_id: str | None = None
    tenant_id: str | None = None
    parent_id: UUID | None = None
    unique_key: str | None = None
    rerun_on_crash: bool = True
    # Who caused it, for the audit: a user's id, or what did it by itself.
    actor: str | None = None
    delay: float | None = None
    run_after: datetime | None = None
    runtime_id: UUID | None = None
    token: UUID | None = None


class Created(msgspec.Struct, frozen=True, gc=False):
    """What `create` did. `existing` is the unfinished execution that has the same unique key."""

    at: datetime
    run_after: datetime | None = None
    existing: TaskSnapshot | None = None


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """An execution that is this runtime's to attempt."""

    snapshot: TaskSnapshot
    arguments: str
    token: UUID
    # Lost with as many processes as it may be: it runs while no other such one does.
    suspect: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an attempt ended, to be written under its token.

    `status` is where it wants to go; a cancel that was asked for may turn it (`states.settle`).
    `retried` is 1 when the edge consumes a retry. `delay` (seconds) is the wait before the next
    attempt, `ttl` (seconds) the time before a final row expires. `result` is JSON text.
    """

    id: UUID
    token: UUID
    status: Status
    progress: int
    progress_message: str | None = None
    result: str | None = None
    error: str | None = None
    error_code: str | None = None
    traceback: str | None = None
    retried: int = 0
    delay: float | None = None
    ttl: float | None = None
    # How long (seconds) the failure callback is this process's to make, if it failed for good.
    callback: float | None = None


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What an accepted outcome made of the row."""

    status: Status
    seq: int
    at: datetime
    run_after: datetime | None
    expires_at: datetime | None
    cancel_requested: bool  # perhaps in another process, a moment ago


class Progress(msgspec.Struct, frozen=True, gc=False):
    """Progress to be kept with the row. A later one, or the outcome, supersedes it."""

    id: UUID
    token: UUID
    progress: int
    progress_message: str | None
    step: int


class Lane(msgspec.Struct, frozen=True, gc=False):
    """One look for due rows: at most `limit` of `queue` whose task is in `names`.

    Those that have been lost with `crashes` processes or more are left out; a `suspect` lane has
    those alone.
    """

    queue: str
    names: tuple[str, ...]
    limit: int
    crashes: int = 2**31 - 1
    suspect: bool = False
    # Where more wait than there are slots: how many of each owner run here already. Owners who have
    # fewer go first, within a priority; "" is nobody.
    running: dict[str, int] | None = None


class ClaimPlan(Protocol):
    """The lanes of one claim, in order. Told what a lane gave, it sizes the next."""

    runtime_id: UUID

    def lanes(self) -> Iterator[Lane]:
        """Yields the next lane; `took` must be called before the next is asked for."""
        ...

    def took(self, lane: Lane, count: int) -> None: ...


class Due(msgspec.Struct, frozen=True, gc=False):
    """What a claim brought: the rows, and seconds until the next delayed row is due, if any."""

    claimed: list[Claimed]
    next_due: float | None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A keyset page of executions, newest first. `everyone` lifts the owner and tenant filter."""

    limit: int
    owner_id: str | None = None
    tenant_id: str | None = None
    everyone: bool = False
    status: str | None = None
    unfinished: bool = False
    name: str | None = None
    queue: str | None = None
    after: UUID | None = None


class Disposal(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions may be deleted: expired ones and, with an `age`, those that ended so many
    seconds ago or earlier. `statuses` narrows both. An unfinished one is never among them.
    """

    age: float | None = None
    statuses: frozenset[Status] = FINAL


class Recovery(msgspec.Struct, frozen=True):
    """What becomes of executions whose holder is dead. `ttl` is of those that end, in seconds.

    `callback` is as in `Outcome`.
    """

    holder: UUID
    max_crashes: int
    ttl: float | None
    callback: float | None = None


class Held(msgspec.Struct, frozen=True):
    """A running row that a runtime holds, as the database has it."""

    id: UUID
    token: UUID
    cancel_requested: bool
    rerun_on_crash: bool


# Called with the name of a thread and the error that has ended it.
OnFault: TypeAlias = Callable[[str, BaseException], None]


class WriterState(msgspec.Struct, frozen=True):
    """A writer thread, for operators. `failing_for` is seconds; None while it works."""

    name: str
    backlog: int
    batches: int
    written: int
    congested: bool
    failing_for: float | None


class Cancelled(msgspec.Struct, frozen=True):
    """The row after a cancel, and whether the cancel changed it (a final row it does not)."""

    snapshot: TaskSnapshot
    changed: bool


class Dispatch(msgspec.Struct, frozen=True, gc=False):
    """A waiting execution that is to be carried to a worker, for the `number`-th time.

    `overdue`: it was carried before, and no worker has taken it in the time that it had.
    """

    id: UUID
    name: str
    queue: str
    priority: int
    number: int
    overdue: bool = False


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A claim of executions that a broker has brought: those whose tasks are known here.

    Those that were lost with `crashes` processes or more are suspects: one is claimed at a time, if
    any `suspects` may be.
    """

    ids: Collection[UUID]
    names: Collection[str]
    runtime_id: UUID
    crashes: int
    suspects: bool


class Brought(msgspec.Struct, frozen=True):
    """What was claimed, and the suspects that must wait until no other one runs here.

    `locked`: another transaction holds these, and they still wait. Look again: it may cancel them,
    or claim them, or leave them as they are.
    """

    claimed: list[Claimed]
    postponed: set[UUID]
    locked: set[UUID] = set()


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
