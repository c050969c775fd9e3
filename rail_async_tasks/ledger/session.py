"""What a writer thread does with its connection: the batches of the SQL ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.core.exceptions import ImproperlyConfigured
from django.db import (
    IntegrityError,
    InterfaceError,
    OperationalError,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from rail_async_tasks.db_connections import DriverCursor, dedicated_connection, is_passing
from rail_async_tasks.ledger import audit
from rail_async_tasks.ledger.locks import is_lock_refusal
from rail_async_tasks.ledger.port import ClaimPlan
from rail_async_tasks.ledger.records import (
    Claimed,
    ClaimResult,
    Created,
    NewExecution,
    Outcome,
    Progress,
    QueueClaim,
    Recovery,
    Settled,
)
from rail_async_tasks.ledger.rows import find_unfinished, in_utc, snapshot_of, snapshot_rows
from rail_async_tasks.ledger.sql import DIALECTS, Dialect
from rail_async_tasks.ledger.writer import AGAIN, ONCE
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import WAITING, Status, settle

logger = get_logger("rail_async_tasks.ledger")

# Django's in a caller's thread, the driver's in a writer's.
Cursor = CursorWrapper | DriverCursor

_STATUS = {status.value: status for status in Status}


class Create(msgspec.Struct, gc=False):
    new: NewExecution
    done: Callable[[Any], None]
    give_up_at: float | None = None

    @property
    def key(self) -> str | None:
        return self.new.unique_key

    @property
    def alone(self) -> bool:
        # A unique key that is taken aborts the transaction: no neighbour may be in it.
        return self.new.unique_key is not None


class Claim(msgspec.Struct, gc=False):
    """`token` is what the claimed rows get: by it they are found again if the answer was lost."""

    plan: ClaimPlan
    token: UUID
    done: Callable[[Any], None]
    tried: bool = False
    alone: bool = False
    give_up_at: None = None
    key: None = None


class Settle(msgspec.Struct, gc=False):
    outcome: Outcome
    done: Callable[[Any], None]
    alone: bool = False
    give_up_at: None = None
    key: None = None


class Keep(msgspec.Struct, gc=False):
    progress: Progress
    done: Callable[[Any], None]
    alone: bool = False
    give_up_at: None = None
    key: None = None


class Recover(msgspec.Struct, gc=False):
    recovery: Recovery
    limit: int
    done: Callable[[Any], None]
    alone: bool = False
    give_up_at: None = None
    key: None = None


class Look(msgspec.Struct, gc=False):
    """A read that the runtime takes on the writer's connection.

    One that is taken `once` fails at the first error: whoever asked will ask again, and what takes
    too long must not hold up the writes behind it for ever.
    """

    read: Callable[[], Any]
    done: Callable[[Any], None]
    once: bool = False
    alone: bool = False
    key: None = None

    @property
    def give_up_at(self) -> float | None:
        return ONCE if self.once else None


class WriterSession:
    """A writer thread's own connection to the ledger's database. See `writer.Session`."""

    def __init__(self, alias: str, *, audited: bool = False) -> None:
        self._alias = alias
        self._audited = audited
        self._connection: BaseDatabaseWrapper | None = None
        self._cursor: DriverCursor | None = None
        self.may_have_committed = False

    def is_transient(self, error: Exception) -> bool:
        # Django maps lost connections, locks, deadlocks and serialization failures to these two;
        # on SQLite also what no patience mends, such as a table that is not there.
        if not isinstance(error, OperationalError | InterfaceError):
            # A primary that was demoted, a right that was revoked: somebody will mend it.
            return getattr(error.__cause__, "sqlstate", None) in ("25006", "42501")
        code = error.args[0] if error.args else None
        if isinstance(code, int):  # MySQL's number; others have words alone
            return is_passing(code)
        lasting = ("no such table", "no such column", "syntax error")
        return not any(words in str(error) for words in lasting)

    def reset(self) -> None:
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            try:
                connection.close()
            except Exception:  # it was lost anyway
                logger.debug("closing a lost connection failed", exc_info=True)

    def _opened(self) -> tuple[BaseDatabaseWrapper, DriverCursor]:
        if self._connection is None or self._cursor is None:
            try:
                if self._connection is None:
                    self._connection = dedicated_connection(self._alias)
                self._cursor = DriverCursor(self._connection)
            except (OperationalError, InterfaceError, ImproperlyConfigured):
                raise
            except BaseException as error:
                # A receiver of `connection_created`, say: nothing is wrong with what is to be
                # written, so it must not be reported as if it were.
                raise InterfaceError(f"connecting raised {error!r:.200}") from error
        return self._connection, self._cursor

    def execute(self, batch: Sequence[Any]) -> list[Any]:
        self.may_have_committed = False
        connection, cursor = self._opened()
        work = batch_on(connection, audited=self._audited)
        if type(batch[0]) is Create and batch[0].alone:
            self.may_have_committed = True
            return [work.create_unique(cursor, batch[0].new)]
        results = self._write(work, cursor, batch)
        unchanged = [op for op in batch if type(op) is Settle and results[id(op)] is None]
        if unchanged:
            found = work.look_after([op.outcome for op in unchanged])
            results.update(zip(map(id, unchanged), found, strict=True))
        for op in batch:
            if type(op) is Claim:
                results[id(op)] = work.claim(cursor, op)
            elif type(op) is Recover:
                results[id(op)] = work.recover(cursor, op.recovery, op.limit)
            elif type(op) is Look:
                results[id(op)] = op.read()
        return [results.get(id(op)) for op in batch]

    def _write(self, work: Batch, cursor: DriverCursor, batch: Sequence[Any]) -> dict[int, Any]:
        """Writes the batch's creations, outcomes and progress; results by the operations' `id()`.

        None for an outcome that has changed no row.
        """
        creates = [op for op in batch if type(op) is Create]
        settles = [op for op in batch if type(op) is Settle]
        keeps = [op for op in batch if type(op) is Keep]
        statements = bool(creates) + bool(settles) + bool(keeps)
        results: dict[int, Any] = {}
        if not statements:
            return results
        # One statement is a transaction by itself, without the round trips of BEGIN and COMMIT.
        together = statements > 1 or work.in_transactions
        # A locked SQLite file is no lost answer: nothing was written.
        remote = work.remote
        group = work.group(cursor, creates_only=not settles and not keeps)
        try:
            with group if together else nullcontext():
                self.may_have_committed = remote and not together
                if creates:
                    made = work.create(cursor, [op.new for op in creates])
                    results.update(zip(map(id, creates), made, strict=True))
                if settles:
                    ended = work.settle(cursor, [op.outcome for op in settles])
                    results.update(zip(map(id, settles), ended, strict=True))
                if keeps:
                    superseded = {op.outcome.id for op in settles}
                    work.progress(cursor, [op.progress for op in keeps], superseded)
                self.may_have_committed = remote
        except OperationalError as error:
            if not (work.by_row and creates and is_lock_refusal(error)):
                raise
            # InnoDB's lock of a gap between keys: claims and reads go on.
            results = {id(op): AGAIN for op in [*creates, *settles, *keeps]}
        return results


def batch_on(connection: BaseDatabaseWrapper, *, audited: bool = False) -> Batch:
    """What writes batches to this connection's database."""
    if connection.vendor in DIALECTS:
        return Batch(connection, audited=audited)
    from rail_async_tasks.ledger.portable import PortableBatch  # which builds upon this module

    return PortableBatch(connection, audited=audited)


class Batch:
    """The statements of one batch on one connection."""

    # Whether a change may take several statements, which need a transaction around them.
    by_row = False

    def __init__(self, connection: BaseDatabaseWrapper, *, audited: bool = False) -> None:
        self._connection = connection
        self._audited = audited
        self._alias = connection.alias
        self._dialect: Dialect = DIALECTS[connection.vendor].on(connection)
        self._sql = self._dialect.statements
        self._clock: str | None = self._dialect.clock(connection)
        self._times: dict[Any, datetime] = {}
        self._suspects: bool | None = None  # whether there are any

    def transaction(self, cursor: DriverCursor) -> AbstractContextManager[None]:
        return cursor.transaction()

    @property
    def in_transactions(self) -> bool:
        """Whether one kind of change takes several statements, and so a transaction."""
        return self._audited or self.by_row

    @property
    def remote(self) -> bool:
        """Whether an answer can be lost on its way from the database."""
        return self._connection.vendor != "sqlite"

    def group(self, cursor: DriverCursor, *, creates_only: bool) -> AbstractContextManager[None]:
        """A transaction for a batch of creations, outcomes and progress."""
        return self.transaction(cursor)

    def _transaction(self, cursor: DriverCursor) -> AbstractContextManager[None]:
        """One where it takes one to change rows and to tell of it."""
        return self.transaction(cursor) if self.in_transactions else nullcontext()

    def _records(self, records: Iterable[Any]) -> list[Any]:
        return self._dialect.bind_records(records, self._clock)

    def create(self, cursor: Cursor, rows: Sequence[NewExecution]) -> list[Created]:
        made = self._create(cursor, rows)
        if self._audited:
            self.record(cursor, audit.of_creations(zip(rows, made, strict=True)))
        return made

    def record(self, cursor: Cursor, events: Iterable[audit.Event]) -> None:
        """Stores audit rows, in the transaction of what they tell of."""
        records = list(events)
        if records:
            cursor.execute(self._sql.audit, self._records(records))

    def _create(self, cursor: Cursor, rows: Sequence[NewExecution]) -> list[Created]:
        dialect = self._dialect
        records = self._records(dialect.bind_new(new, self._connection) for new in rows)
        if self._clock is not None and self._sql.create_due is not None and all(map(_is_due, rows)):
            cursor.execute(self._sql.create_due, records)
            if cursor.rowcount == len(rows):
                return [Created(self._time(self._clock))] * len(rows)
            return [self._made_before(new) for new in rows]
        cursor.execute(self._sql.create, records)
        made = {
            row[0]: Created(self._time(row[1]), None if row[2] is None else self._time(row[2]))
            for row in cursor.fetchall()
        }
        raw_id = dialect.raw_id
        return [made.get(raw_id(new.id)) or self._made_before(new) for new in rows]

    def _made_before(self, new: NewExecution) -> Created:
        """The row is there already: an earlier COMMIT, whose answer was lost, did take effect."""
        row = TaskExecution.objects.using(self._alias).get(id=new.id)
        return Created(in_utc(row.created_at), in_utc(row.run_after))

    def create_unique(self, cursor: DriverCursor, new: NewExecution) -> Any:
        """Inserts a row with a unique key; `AGAIN` while another transaction holds the key."""
        try:
            with self.without_waiting(cursor):
                return self.create(cursor, [new])[0]
        except IntegrityError:
            existing = find_unfinished(self._alias, new.unique_key)
            # None: the key was freed since then.
            return AGAIN if existing is None else Created(existing.created_at, existing=existing)
        except OperationalError as error:
            if not is_lock_refusal(error):
                raise
            return AGAIN

    def without_waiting(self, cursor: DriverCursor) -> AbstractContextManager[None]:
        """A transaction whose statements fail where they would wait for a lock.

        SQLite has one lock for all writers, which this thread waits for in any case.
        """
        return self._without_waiting(cursor)

    @contextmanager
    def _without_waiting(self, cursor: DriverCursor) -> Iterator[None]:
        with self.transaction(cursor):
            if self._dialect.no_lock_wait is not None:
                cursor.execute(self._dialect.no_lock_wait)
            yield

    def settle(self, cursor: Cursor, outcomes: Sequence[Outcome]) -> list[Settled | None]:
        settled = self._settle(cursor, outcomes)
        if self._audited:
            self.record(cursor, audit.of_outcomes(zip(outcomes, settled, strict=True)))
        return settled

    def _settle(self, cursor: Cursor, outcomes: Sequence[Outcome]) -> list[Settled | None]:
        cursor.execute(self._sql.settle, self._records(map(self._dialect.bind_outcome, outcomes)))
        ended = {row[0]: self._settled(row) for row in cursor.fetchall()}
        raw_id = self._dialect.raw_id
        return [ended.get(raw_id(outcome.id)) for outcome in outcomes]

    def _settled(self, row: Sequence[Any]) -> Settled:
        return Settled(
            status=_STATUS[row[1]],
            seq=row[2],
            at=self._time(row[3]),
            run_after=None if row[4] is None else self._time(row[4]),
            expires_at=None if row[5] is None else self._time(row[5]),
            cancel_requested=bool(row[6]),
        )

    def _time(self, value: Any) -> datetime:
        """The rows of a batch share their times: each is read once."""
        time = self._times.get(value)
        if time is None:
            time = self._times[value] = self._dialect.time(value)
        return time

    def look_after(self, outcomes: Sequence[Outcome]) -> list[Any]:
        """What became of outcomes that changed no row.

        Running under this token: another transaction has the row locked, so `AGAIN`. Not running,
        but the token is still there: an earlier COMMIT, whose answer was lost, did write it (the
        token stays until the next claim). Otherwise it is no longer this attempt's.
        """
        rows = TaskExecution.objects.using(self._alias).filter(id__in=[it.id for it in outcomes])
        found = {row.id: row for row in rows}
        return [self._what_became_of(outcome, found.get(outcome.id)) for outcome in outcomes]

    def _what_became_of(self, outcome: Outcome, row: TaskExecution | None) -> Any:
        if row is None or row.token != outcome.token:
            return None
        if row.status == Status.RUNNING:
            return AGAIN
        if row.status not in _meant(outcome, row):
            return None  # freed meanwhile by somebody who thought this attempt lost
        snapshot = snapshot_of(row)
        return Settled(
            Status(row.status),
            row.seq,
            snapshot.updated_at,
            snapshot.run_after,
            snapshot.expires_at,
            snapshot.cancel_requested,
        )

    def progress(self, cursor: Cursor, kept: Sequence[Progress], superseded: set[Any]) -> None:
        """Writes the latest progress of each row that no outcome in the batch supersedes."""
        latest = {progress.id: progress for progress in kept if progress.id not in superseded}
        if latest:
            cursor.execute(self._sql.progress, self._records(latest.values()))

    def claim(self, cursor: DriverCursor, op: Claim) -> ClaimResult:
        plan = op.plan
        claimed: list[Claimed] = []
        if op.tried:  # an earlier try may have claimed some, and its answer was lost
            return ClaimResult(self._claimed_before(plan.runtime_id, op.token), None)
        op.tried = True
        next_due = self._next_due(cursor)
        if next_due is not None and next_due <= 0:
            # One transaction, and so one time: what is not staged is locked, or due later.
            with self.transaction(cursor):
                self._stage(cursor)
                next_due = self._next_due(cursor, later=True)
        for lane in plan.claims():
            with self._transaction(cursor):
                rows = self._claim_lane(cursor, op, lane)
                if not rows and lane.running is not None and self._skips_locked:
                    # All whose turn it is may be locked: the first of the others then.
                    rows = self._claim_lane(cursor, op, msgspec.structs.replace(lane, running=None))
                if self._audited:
                    self.record(cursor, audit.of_claims(rows, plan.runtime_id))
            plan.took(lane, len(rows))
            claimed += rows
        return ClaimResult(claimed, next_due)

    def _bound(self) -> list[str]:
        return [] if self._clock is None else [self._clock]

    def _stage(self, cursor: Cursor) -> None:
        cursor.execute(self._sql.stage, self._bound())

    @property
    def _skips_locked(self) -> bool:
        return self._clock is None  # not SQLite

    def _next_due(self, cursor: Cursor, *, later: bool = False) -> float | None:
        """Seconds until the first delayed row is due; `later`: the first of those not yet due.

        One that is due and locked is staged by a later claim, within the dispatcher's interval.
        """
        if later and self._sql.next_due_later is not None:
            cursor.execute(self._sql.next_due_later, self._bound())
        else:
            cursor.execute(self._sql.next_due, self._bound())
        (seconds,) = cursor.fetchone()
        return None if seconds is None else float(seconds)

    def _claim_lane(self, cursor: Cursor, op: Claim, lane: QueueClaim) -> list[Claimed]:
        dialect = self._dialect
        if lane.suspect and not self._has_suspects():
            return []
        if self._clock is not None and not self._has_due(lane):
            return []  # on SQLite an UPDATE takes the one write lock even where it finds nothing
        where = (lane, op.plan.runtime_id, op.token, self._clock)
        if lane.suspect:
            cursor.execute(self._sql.claim_suspect, dialect.claim_params(*where))
        elif lane.running is not None:
            cursor.execute(self._sql.claim_fair, dialect.fair_params(*where))
        else:
            cursor.execute(self._sql.claim, dialect.claim_params(*where))
        rows = [
            Claimed(dialect.snapshot(row), row[-1], op.token, lane.suspect)
            for row in cursor.fetchall()
        ]
        # RETURNING promises no order.
        rows.sort(key=lambda claimed: (-claimed.snapshot.priority, claimed.snapshot.id))
        return rows

    def recover(self, cursor: DriverCursor, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        """Frees executions of a dead holder. One statement, which a second try finds done."""
        with self._transaction(cursor):
            freed = self._recover(cursor, recovery, limit)
            if self._audited:
                self.record(cursor, audit.of_recoveries(freed))
        return freed

    def _recover(self, cursor: Cursor, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        dialect = self._dialect
        cursor.execute(self._sql.recover, dialect.recover_params(recovery, limit, self._clock))
        return [dialect.snapshot(row) for row in cursor.fetchall()]

    def _claimed_before(self, runtime_id: UUID, token: UUID) -> list[Claimed]:
        rows = TaskExecution.objects.using(self._alias).filter(
            runtime_id=runtime_id, token=token, status=Status.RUNNING
        )
        return [
            Claimed(snapshot_of(row), msgspec.json.encode(row.arguments).decode(), token)
            for row in rows.order_by("-priority", "id")
        ]

    def _has_suspects(self) -> bool:
        if self._suspects is None:
            waiting = snapshot_rows(self._alias).filter(status__in=sorted(WAITING), crashes__gt=0)
            self._suspects = waiting.exists()
        return self._suspects

    def _has_due(self, lane: QueueClaim) -> bool:
        return snapshot_rows(self._alias).filter(
            queue=lane.queue, status__in=sorted(WAITING), run_after__isnull=True
        ).exists()  # fmt: skip


def _is_due(new: NewExecution) -> bool:
    return new.delay is None and new.run_after is None


def _meant(outcome: Outcome, row: TaskExecution) -> set[Status]:
    """Where the outcome leads, if it was written."""
    return {outcome.status, settle(outcome.status, cancel_requested=row.cancel_requested)}
