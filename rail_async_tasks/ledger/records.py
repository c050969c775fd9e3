"""What goes into a ledger and what comes out: requests, claims, outcomes, pages."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec
from django.db import OperationalError

from rail_async_tasks.snapshot import TaskSnapshot
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


class QueueClaim(msgspec.Struct, frozen=True, gc=False):
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


class ClaimResult(msgspec.Struct, frozen=True, gc=False):
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


class DeliveryClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim of executions that a broker has brought: those whose tasks are known here.

    Those that were lost with `crashes` processes or more are suspects: one is claimed at a time, if
    any `suspects` may be.
    """

    ids: Collection[UUID]
    names: Collection[str]
    runtime_id: UUID
    crashes: int
    suspects: bool


class DeliveryClaimResult(msgspec.Struct, frozen=True):
    """What was claimed, and the suspects that must wait until no other one runs here.

    `locked`: another transaction holds these, and they still wait. Look again: it may cancel them,
    or claim them, or leave them as they are.
    """

    claimed: list[Claimed]
    postponed: set[UUID]
    locked: set[UUID] = set()
