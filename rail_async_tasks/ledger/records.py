"""The records that go into a ledger and come out: requests, claims, outcomes, pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import msgspec
from django.db import OperationalError

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import FINAL, Status


class RowLocked(OperationalError):
    """Another transaction holds the row, or the unique key, that a change needs."""

    def __init__(self) -> None:
        super().__init__("Another transaction holds the task's row or its unique key.")


# The holder of executions that run inline, in their caller's thread and transaction. It has no
# lease, so that an execution counts as an orphan only this many seconds after its start.
INLINE_HOLDER = UUID(int=1)
INLINE_SECONDS = 86400.0

# A time that was stored with the ledger's clock, and is further ahead of it than this, was stored
# while the clock was ahead. Processes on one SQLite file may differ by a little.
TOLERANCE = timedelta(seconds=60)

# In a pending row a delay and a time of day look alike. It counts as a delay where the clock was
# ahead by more than this; otherwise the task begins late, by no more than this.
LONGEST_DELAY_LATE = timedelta(days=1)


class NewExecution(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A row to insert. With a `token` it is inserted as running: that commit is the claim.

    `arguments` is a JSON object as text; `delay` is in seconds, by the ledger's own clock.

    As JSON for the database it leaves out what is None, which is most of it.
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
    # The language in which the body runs; None: LANGUAGE_CODE.
    language: str | None = None
    # The span that started it, as W3C Trace Context; None: no span was open.
    traceparent: str | None = None
    tracestate: str | None = None
    rerun_on_crash: bool = msgspec.field(default_factory=lambda: True)  # a default is left out
    # The cause, for the audit: a user's id, or the name of a part of the package.
    actor: str | None = None
    delay: float | None = None
    run_after: datetime | None = None
    runtime_id: UUID | None = None
    token: UUID | None = None


class Created(msgspec.Struct, frozen=True, gc=False):
    """The result of `create`. `existing` is the unfinished execution with the same unique key."""

    at: datetime
    run_after: datetime | None = None
    existing: TaskSnapshot | None = None


class CreatedMany(msgspec.Struct, frozen=True):
    """The result of `create_many_here`: for each row, in their order, what is there now.

    `fresh` are the new ones. The others are unfinished executions that have a row's unique key.
    """

    stored: list[TaskSnapshot]
    fresh: list[TaskSnapshot]


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """An execution that this runtime has claimed."""

    snapshot: TaskSnapshot
    arguments: str
    token: UUID
    # As in `NewExecution`.
    language: str | None = None
    # Lost with as many processes as allowed: it runs while no other suspect does.
    suspect: bool = False
    # As in `NewExecution`.
    traceparent: str | None = None
    tracestate: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The end of an attempt, to be written under its token.

    `status` is the intended state; a cancel that was asked for may change it (`states.settle`).
    `retried` is 1 when the edge consumes a retry, 0 when the attempt is handed back. `delay`
    (seconds) is the wait before the next attempt, `ttl` (seconds) the time before a final row
    expires. `result` is JSON text.

    As JSON for the database it leaves out what is None.
    """

    id: UUID
    token: UUID
    status: Status
    progress: int
    progress_message: str | None = None
    result: str | None = None
    error: str | None = None
    error_code: str | None = None
    # The class name of the exception that ended the attempt.
    error_type: str | None = None
    # The project's line that it came through (`rollups.error_places.place_of`).
    error_place: str | None = None
    traceback: str | None = None
    retried: int = msgspec.field(default_factory=int)  # a default is left out
    delay: float | None = None
    ttl: float | None = None
    # The seconds for which this process reserves the failure callback, if it failed for good.
    callback_hold: float | None = None


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The row after an accepted outcome."""

    status: Status
    seq: int
    at: datetime
    run_after: datetime | None
    expires_at: datetime | None
    cancel_requested: bool  # perhaps in another process, a moment ago


class Progress(msgspec.Struct, frozen=True, gc=False):
    """Progress to be stored with the row. Later progress, or the outcome, supersedes it."""

    id: UUID
    token: UUID
    progress: int
    progress_message: str | None
    step: int


class QueueClaim(msgspec.Struct, frozen=True, gc=False):
    """A claim of due rows of one queue: at most `limit`, whose task is in `names`.

    A row that was lost with `crashes` processes or more is a suspect. The claim leaves suspects
    out; with `suspect` it takes only suspects.
    """

    queue: str
    names: tuple[str, ...]
    limit: int
    crashes: int = 2**31 - 1
    suspect: bool = False
    # The queue's rate: the claim takes a token for each row, and no more rows than there are.
    rate: RateLimit | None = None
    # Where more wait than there are slots: the number of each owner's running attempts here. Within
    # a priority, owners with fewer go first; "" stands for tasks without an owner.
    running: dict[str, int] | None = None


class ClaimResult(msgspec.Struct, frozen=True, gc=False):
    """The claimed rows, and the seconds until the next delayed row is due, if there is one."""

    claimed: list[Claimed]
    next_due: float | None


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a renewal of a lease.

    Attributes:
        alive: False once this runtime was found dead; then nothing was renewed.
        left: seconds that the lease had left before, by the ledger's clock; None without one.
        silent: another runtime's lease has lapsed, and the runtime is not marked dead yet.
        others: other runtimes are not marked dead.
        dead_holders: the holders of running executions that are no live runtimes.
    """

    alive: bool
    left: float | None = None
    silent: bool = False
    others: bool = True
    dead_holders: frozenset[UUID] = frozenset()


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What one statement tells about the rows that wait.

    Attributes:
        waiting: those of the asked queues in which rows are due.
        next_due: seconds until the first delayed row is due, below 0 where it is; None without one.
        paused: the paused queues.
    """

    waiting: frozenset[str]
    next_due: float | None
    paused: frozenset[str]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A keyset page of executions, newest first. `everyone` lifts the owner and tenant filter.

    Without `results` each execution has None in place of its result, which is not read.
    """

    limit: int
    owner_id: str | None = None
    tenant_id: str | None = None
    everyone: bool = False
    status: str | None = None
    unfinished: bool = False
    name: str | None = None
    queue: str | None = None
    after: UUID | None = None
    results: bool = True


class Disposal(msgspec.Struct, frozen=True, kw_only=True):
    """A choice of executions to delete: expired ones and, with an `age`, older ones.

    `age` is in seconds since the end. `statuses` narrows both. An unfinished execution is never
    chosen.
    """

    age: float | None = None
    statuses: frozenset[Status] = FINAL


class Recovery(msgspec.Struct, frozen=True):
    """How executions of a dead holder are freed.

    `ttl` (seconds) is for those that end; `callback_hold` is as in `Outcome`.
    """

    holder: UUID
    max_crashes: int
    ttl: float | None
    callback_hold: float | None = None


class Held(msgspec.Struct, frozen=True):
    """A running row that a runtime holds, as it is stored."""

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


class Vitals(msgspec.Struct, frozen=True):
    """What a process says of itself with its lease, for operators.

    `role` is "web" or "worker". `lag_seconds` is the longest time that its loop took to answer of
    late; `leaked` counts bodies that were given up, and have not ended.
    """

    role: str | None = None
    lag_seconds: float = 0.0
    leaked: int = 0


NOTHING_KNOWN = Vitals()


class Cancelled(msgspec.Struct, frozen=True):
    """The row after a cancel, and whether the cancel changed it: it changes no final row."""

    snapshot: TaskSnapshot
    changed: bool
