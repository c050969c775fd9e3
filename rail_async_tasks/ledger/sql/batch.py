"""One batch on PostgreSQL or SQLite: a statement for all rows of one kind."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks.db_connections import DriverCursor
from rail_async_tasks.ledger import audit
from rail_async_tasks.ledger.batch import Batch, Cursor
from rail_async_tasks.ledger.operations import Claim
from rail_async_tasks.ledger.records import (
    Claimed,
    Created,
    NewExecution,
    Outcome,
    Progress,
    QueueClaim,
    Recovery,
    Settled,
    Survey,
)
from rail_async_tasks.ledger.rows import in_utc, snapshot_rows
from rail_async_tasks.ledger.sql.dialects import DIALECTS, Dialect
from rail_async_tasks.ledger.sql.texts import STATEMENTS
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import WAITING, Status

_STATUS = {status.value: status for status in Status}


class SqlBatch(Batch):
    """See `ledger.batch.Batch`."""

    def __init__(self, connection: BaseDatabaseWrapper, *, audited: bool = False) -> None:
        super().__init__(connection, audited=audited)
        self._dialect: Dialect = DIALECTS[connection.vendor].on(connection)
        self._sql = STATEMENTS[connection.vendor]
        self._clock: str | None = self._dialect.clock(connection)
        self._times: dict[Any, datetime] = {}

    # --- transactions ----------------------------------------------------------------------------

    def transaction(self, cursor: DriverCursor) -> AbstractContextManager[None]:
        return cursor.transaction()

    @contextmanager
    def without_waiting(self, cursor: DriverCursor) -> Iterator[None]:
        with self.transaction(cursor):
            if self._dialect.no_lock_wait is not None:
                cursor.execute(self._dialect.no_lock_wait)
            yield

    @property
    def skips_locked(self) -> bool:
        return self._clock is None  # not SQLite

    # --- creations -------------------------------------------------------------------------------

    def _create(self, cursor: Cursor, rows: Sequence[NewExecution]) -> list[Created]:
        dialect = self._dialect
        records = self._records(dialect.bind_new(new, self._connection) for new in rows)
        traced = any(new.traceparent is not None for new in rows)
        if all(map(_is_due, rows)):
            cursor.execute(self._sql.create_due[traced], records)
            count, at = cursor.rowcount, self._clock
            if at is None:
                count, at = cursor.fetchone()
            if count == len(rows):
                return [Created(self._time(at))] * len(rows)
            return self._made(rows)
        cursor.execute(self._sql.create[traced], records)
        made = {
            row[0]: Created(self._time(row[1]), None if row[2] is None else self._time(row[2]))
            for row in cursor.fetchall()
        }
        if len(made) < len(rows):
            return self._made(rows)
        return [made[dialect.raw_id(new.id)] for new in rows]

    def _made(self, rows: Sequence[NewExecution]) -> list[Created]:
        """Some are there already: an earlier COMMIT, whose answer was lost, did take effect."""
        stored = TaskExecution.objects.using(self._alias).filter(id__in=[new.id for new in rows])
        times = stored.values_list("id", "created_at", "run_after")
        made = {row[0]: Created(in_utc(row[1]), in_utc(row[2])) for row in times}
        return [made[new.id] for new in rows]

    # --- writes by an attempt --------------------------------------------------------------------

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

    def _progress(self, cursor: Cursor, latest: dict[UUID, Progress]) -> None:
        cursor.execute(self._sql.progress, self._records(latest.values()))

    # --- claims ----------------------------------------------------------------------------------

    def _stage(self, cursor: Cursor) -> None:
        cursor.execute(self._sql.stage, self._bound())

    def _next_due(self, cursor: Cursor, *, later: bool = False) -> float | None:
        if later and self._sql.next_due_later is not None:
            cursor.execute(self._sql.next_due_later, self._bound())
        else:
            cursor.execute(self._sql.next_due, self._bound())
        (seconds,) = cursor.fetchone()
        return None if seconds is None else float(seconds)

    def _claim(self, cursor: Cursor, op: Claim, part: QueueClaim) -> list[Claimed]:
        dialect, sql = self._dialect, self._sql
        if part.suspect and not self._has_suspects():
            return []
        if self._clock is not None and not self._has_due(part):
            return []  # on SQLite an UPDATE takes the one write lock even where it finds nothing
        where = (dialect, part, op.plan.runtime_id, op.token, self._clock)
        if part.suspect:
            cursor.execute(sql.claim_suspect, sql.claim_parameters(*where))
        elif part.running is not None:
            cursor.execute(sql.claim_fair, sql.fair_parameters(*where))
        else:
            cursor.execute(sql.claim, sql.claim_parameters(*where))
        rows = [dialect.claimed(row, op.token, suspect=part.suspect) for row in cursor.fetchall()]
        # RETURNING promises no order.
        rows.sort(key=lambda claimed: (-claimed.snapshot.priority, claimed.snapshot.id))
        return rows

    def _has_due(self, part: QueueClaim) -> bool:
        return snapshot_rows(self._alias).filter(
            queue=part.queue, status__in=sorted(WAITING), run_after__isnull=True
        ).exists()  # fmt: skip

    def survey(self, cursor: Cursor, queues: Collection[str]) -> Survey:
        names: Any = list(queues)
        if self._clock is not None:
            names = self._dialect.encoder.encode(names).decode()
        cursor.execute(self._sql.survey, [names, *self._bound()])
        waiting, next_due, paused = cursor.fetchone()
        if self._clock is not None:
            waiting, paused = msgspec.json.decode(waiting), msgspec.json.decode(paused)
        return Survey(
            waiting=frozenset(waiting), next_due=next_due, paused=frozenset(paused)
        )  # fmt: skip

    # --- recovery, audit -------------------------------------------------------------------------

    def _recover(self, cursor: Cursor, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        parameters = self._sql.recover_parameters(recovery, limit, self._clock)
        cursor.execute(self._sql.recover, parameters)
        return [self._dialect.snapshot(row) for row in cursor.fetchall()]

    def record(self, cursor: Cursor, events: Iterable[audit.Event]) -> None:
        records = list(events)
        if records:
            cursor.execute(self._sql.audit, self._records(records))

    # --- parameters and values -------------------------------------------------------------------

    def _records(self, records: Iterable[Any]) -> list[Any]:
        return self._dialect.bind_records(records, self._clock)

    def _bound(self) -> list[str]:
        return [] if self._clock is None else [self._clock]

    def _time(self, value: Any) -> datetime:
        """The rows of a batch share their times: each is read once."""
        time = self._times.get(value)
        if time is None:
            time = self._times[value] = self._dialect.time(value)
        return time


def _is_due(new: NewExecution) -> bool:
    return new.delay is None and new.run_after is None
