"""The batches of the SQL ledger for other databases than PostgreSQL and SQLite. Tested on MariaDB.

Nothing is asked of the database but transactions and rowcounts: each row's change is an UPDATE of
its own, whose WHERE names all that the decision went by. Where rows can be locked and locked ones
skipped (MariaDB from 10.6, MySQL from 8, Oracle), processes do not wait for each other. Slower than
`sql.py` by the round trip per row.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.db import IntegrityError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Min, QuerySet, TextField, Value

from rail_async_tasks.ledger import audit
from rail_async_tasks.ledger.locks import unlocked, without_waiting
from rail_async_tasks.ledger.records import (
    Claimed,
    Created,
    NewExecution,
    Outcome,
    Progress,
    QueueClaim,
    Recovery,
    Settled,
)
from rail_async_tasks.ledger.rows import (
    clock,
    in_utc,
    snapshot_of,
    snapshot_rows,
    storable,
)
from rail_async_tasks.ledger.session import Batch, Claim, Cursor
from rail_async_tasks.ledger.sql import LOST
from rail_async_tasks.models import TaskEvent, TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import FINAL, WAITING, Status, settle

# What one INSERT may hold: a server refuses packets of a size that it was given, 16 MiB or so.
MOST_BYTES = 1 << 20
# Delayed rows that one UPDATE makes due.
MOST_STAGED = 1000
# Owners that one claim asks for, each by a query.
MOST_OWNERS = 50


class PortableBatch(Batch):
    """See `session.Batch`. All within `transaction`: one change may take several statements."""

    by_row = True

    def __init__(self, connection: BaseDatabaseWrapper, *, audited: bool = False) -> None:
        self._connection = connection
        self._audited = audited
        self._alias = connection.alias
        self._clock = None
        self._suspects = None
        self._now: datetime | None = None

    def transaction(self, cursor: Cursor) -> AbstractContextManager[None]:
        return transaction.atomic(using=self._alias)

    def group(self, cursor: Cursor, *, creates_only: bool) -> AbstractContextManager[None]:
        # On MariaDB an insert may wait for a gap: see docs/databases.md. Rows that change are
        # skipped where they are locked, which MariaDB does not do without a lock wait timeout.
        return without_waiting(self._connection) if creates_only else self.transaction(cursor)

    def without_waiting(self, cursor: Cursor) -> AbstractContextManager[None]:
        return without_waiting(self._connection)

    # --- creations -------------------------------------------------------------------------------

    def _create(self, cursor: Cursor, rows: Sequence[NewExecution]) -> list[Created]:
        made: dict[UUID, Created] = {}
        missing = list({new.id: new for new in rows}.values())
        while missing:
            try:
                with transaction.atomic(using=self._alias):
                    made.update(self._insert(missing))
                break
            except IntegrityError:
                # Some are there already: an earlier COMMIT, whose answer was lost, did take effect.
                there = self._rows().filter(id__in=[new.id for new in missing])
                found = {
                    row.id: Created(in_utc(row.created_at), in_utc(row.run_after))
                    for row in there.only("id", "created_at", "run_after")
                }
                if not found:
                    raise
                made.update(found)
                missing = [new for new in missing if new.id not in found]
        return [made[new.id] for new in rows]

    def _insert(self, rows: Sequence[NewExecution]) -> Iterator[tuple[UUID, Created]]:
        for part in _parts(rows):
            new = [self._row_of(it) for it in part]
            self._rows().bulk_create(new)
            for row in new:
                yield row.id, Created(in_utc(row.created_at), in_utc(row.run_after))

    def _row_of(self, new: NewExecution) -> TaskExecution:
        at, run_after, claimed = self._at(), new.run_after, new.token is not None
        if new.delay is not None:
            run_after = at + timedelta(seconds=new.delay)
        return TaskExecution(
            id=new.id,
            name=new.name,
            status=Status.RUNNING if claimed else Status.PENDING,
            queue=new.queue,
            priority=new.priority,
            arguments=_json(new.arguments),
            max_retries=new.max_retries,
            rerun_on_crash=new.rerun_on_crash,
            owner_id=new.owner_id,
            tenant_id=new.tenant_id,
            parent_id=new.parent_id,
            unique_key=new.unique_key,
            attempts=1 if claimed else 0,
            seq=2 if claimed else 1,
            runtime_id=new.runtime_id,
            token=new.token,
            created_at=storable(at),
            updated_at=storable(at),
            started_at=storable(at) if claimed else None,
            run_after=None if run_after is None else storable(run_after),
        )

    # --- writes by an attempt --------------------------------------------------------------------

    def _settle(self, cursor: Cursor, outcomes: Sequence[Outcome]) -> list[Settled | None]:
        held = self._unlocked(outcome.id for outcome in outcomes)
        settled: dict[int, Settled | None] = {}
        # In the order of ids, so that two processes never wait for each other in a ring.
        for outcome in sorted(outcomes, key=lambda it: it.id):
            row = held.get(outcome.id)
            mine = row is not None and row.token == outcome.token and row.status == Status.RUNNING
            settled[id(outcome)] = self._end(row, outcome) if row is not None and mine else None
        return [settled[id(outcome)] for outcome in outcomes]

    def _end(self, row: TaskExecution, outcome: Outcome) -> Settled | None:
        status = settle(outcome.status, cancel_requested=row.cancel_requested)
        cancelled, waits = status is Status.CANCELLED, status is Status.RETRYING
        delay = outcome.delay if waits and outcome.delay and outcome.delay > 0 else None
        at, run_after = self._at(), self._later(delay)
        ends = self._ends(status, outcome.ttl, outcome.callback)
        changed = self._as_seen(row).update(
            **ends,
            status=status,
            seq=row.seq + 1,
            step=0,
            progress=100 if status is Status.COMPLETED else outcome.progress,
            progress_message=outcome.progress_message,
            result=None if outcome.result is None else _json(outcome.result),
            error=None if cancelled else outcome.error,
            error_code="cancelled" if cancelled else outcome.error_code,
            traceback=outcome.traceback,
            retry_count=row.retry_count + (outcome.retried if waits else 0),
            run_after=run_after,
        )
        if not changed:
            return None
        return Settled(
            status, row.seq + 1, at, in_utc(run_after), in_utc(ends["expires_at"]),
            row.cancel_requested,
        )  # fmt: skip

    def progress(self, cursor: Cursor, kept: Sequence[Progress], superseded: set[Any]) -> None:
        latest = {progress.id: progress for progress in kept if progress.id not in superseded}
        # A row that somebody else has locked is left out: the next one, or the outcome, comes.
        for row in self._unlocked(latest).values():
            progress = latest[row.id]
            if row.token == progress.token:
                self._as_seen(row).update(
                    progress=progress.progress,
                    step=progress.step,
                    progress_message=progress.progress_message,
                    updated_at=storable(self._at()),
                )

    def _unlocked(self, ids: Iterable[UUID]) -> dict[UUID, TaskExecution]:
        """These rows, ours until the end of the transaction; without those that others have."""
        rows = self._rows().filter(id__in=sorted(set(ids))).order_by("id")
        seen = rows.only("id", "token", "status", "seq", "retry_count", "cancel_requested")
        return {row.id: row for row in self._locked(seen)}

    def _as_seen(self, row: TaskExecution) -> QuerySet[TaskExecution]:
        """The running row, if nothing has changed that a decision went by."""
        return self._rows().filter(
            id=row.id, token=row.token, status=Status.RUNNING, seq=row.seq,
            cancel_requested=row.cancel_requested,
        )  # fmt: skip

    def _ends(self, status: Status, ttl: float | None, callback: float | None) -> dict[str, Any]:
        """What every edge out of `running` writes."""
        at = storable(self._at())
        ends = {
            "runtime_id": None, "updated_at": at, "completed_at": None, "expires_at": None,
            "callback_at": None,
        }  # fmt: skip
        if status in FINAL:
            ends |= {"completed_at": at, "expires_at": self._later(ttl), "unique_key": None}
        if status is Status.FAILED:
            ends["callback_at"] = self._later(callback)
        return ends

    # --- claims ----------------------------------------------------------------------------------

    def _next_due(self, cursor: Cursor, *, later: bool = False) -> float | None:
        rows = self._rows()
        if later and self._skips_locked:
            rows = rows.filter(run_after__gt=storable(self._at()))
        first = in_utc(rows.aggregate(first=Min("run_after"))["first"])
        return None if first is None else (first - self._at()).total_seconds()

    def _stage(self, cursor: Cursor) -> None:
        come = self._rows().filter(run_after__lte=storable(self._at()))
        if not self._skips_locked:
            come.update(run_after=None)
            return
        while ids := list(unlocked(come).values_list("id", flat=True)[:MOST_STAGED]):
            self._rows().filter(id__in=ids).update(run_after=None)

    def _claim_lane(self, cursor: Cursor, op: Claim, lane: QueueClaim) -> list[Claimed]:
        if lane.suspect and not self._has_suspects():
            return []
        candidates = self._candidates(lane)
        at = storable(self._at())
        taken = {
            "status": Status.RUNNING, "attempts": F("attempts") + 1, "seq": F("seq") + 1, "step": 0,
            "progress": 0, "progress_message": None, "error": None, "error_code": None,
            "traceback": None, "runtime_id": op.plan.runtime_id, "token": op.token,
            "started_at": at, "updated_at": at, "run_after": None, "dispatched_at": None,
        }  # fmt: skip
        waiting = self._rows().filter(status__in=sorted(WAITING))
        ids = [row.id for row in candidates]
        if self._skips_locked:  # they are ours until the end of the transaction
            waiting.filter(id__in=ids).update(**taken)
        else:
            ids = [
                row.id
                for row in candidates
                if waiting.filter(id=row.id, seq=row.seq).update(**taken)
            ]
        if not ids:
            return []
        rows = snapshot_rows(self._alias).defer(None).defer("traceback")
        mine = rows.filter(id__in=ids, token=op.token, status=Status.RUNNING)
        return [
            Claimed(snapshot_of(row), _text(row.arguments), op.token, lane.suspect)
            for row in mine.order_by("-priority", "id")
        ]

    def _candidates(self, lane: QueueClaim) -> list[TaskExecution]:
        """What the lane is to take: locked, where that can be skipped."""
        due = self._rows().filter(queue=lane.queue, run_after__isnull=True, name__in=lane.names)
        if lane.suspect:
            due = due.filter(crashes__gt=0, crashes__gte=lane.crashes)
        else:
            due = due.filter(crashes__lt=lane.crashes)
        if lane.running is None:
            found = [row for part in _first(due, lane.limit) for row in self._locked(part)]
            return sorted(found, key=_place)[: lane.limit]
        chosen = [row.id for row in self._fairly(lane, due, lane.running)]
        still = due.filter(id__in=chosen, status__in=sorted(WAITING)).order_by("id")
        return sorted(self._locked(still), key=_place)

    def _fairly(
        self, lane: QueueClaim, due: QuerySet[TaskExecution], running: dict[str, int]
    ) -> list[TaskExecution]:
        """The first by priority; within one, owners who have few running, counting these, first.

        Of very many owners some are drawn, and all that are first whoever they are of.
        """
        owners = list(self._owners(lane.queue))
        share = lane.limit // max(len(owners), 1) + 1
        if len(owners) > MOST_OWNERS:
            random.shuffle(owners)
            owners = sorted(owners, key=lambda it: running.get(it or "", 0))[:MOST_OWNERS]
        of_owners = [part for it in owners for part in _first(due.filter(owner_id=it), share)]
        found = {row.id: row for part in [*_first(due, lane.limit), *of_owners] for row in part}
        turns = Counter(running)
        turn: dict[UUID, int] = {}
        for row in sorted(found.values(), key=_place):
            turns[row.owner_id or ""] += 1
            turn[row.id] = turns[row.owner_id or ""]
        fair = sorted(found.values(), key=lambda row: (-row.priority, turn[row.id], row.id))
        return fair[: lane.limit]

    def _owners(self, queue: str) -> set[str | None]:
        """Who has due rows there. An index leads from one owner to the next."""
        due = self._rows().filter(queue=queue, run_after__isnull=True).order_by()
        owners = due.values_list("owner_id", flat=True).distinct()
        return {owner for status in sorted(WAITING) for owner in owners.filter(status=status)}

    # --- recovery --------------------------------------------------------------------------------

    def _recover(self, cursor: Cursor, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        held = self._rows().filter(status=Status.RUNNING, runtime_id=recovery.holder)
        freed = [
            row.id
            for row in self._locked(held.defer("arguments", "result").order_by("id")[:limit])
            if self._free(row, recovery)
        ]
        return [snapshot_of(row) for row in snapshot_rows(self._alias).filter(id__in=freed)]

    def _free(self, row: TaskExecution, recovery: Recovery) -> bool:
        error = error_code = None
        if row.cancel_requested:
            status, error_code = Status.CANCELLED, "cancelled"
        elif row.rerun_on_crash and row.crashes < recovery.max_crashes:
            status = Status.RETRYING
        else:
            status, error, error_code = Status.FAILED, LOST, "worker_lost"
        changed = self._as_seen(row).update(
            **self._ends(status, recovery.ttl, recovery.callback),
            status=status,
            seq=row.seq + 1,
            step=0,
            crashes=row.crashes + 1,
            error=error,
            error_code=error_code,
            traceback=None,
            run_after=None,
            token=None,  # or the lost attempt would take this for its own outcome
        )
        return bool(changed)

    # --- the audit -------------------------------------------------------------------------------

    def record(self, cursor: Cursor, events: Iterable[audit.Event]) -> None:
        wanted = list(events)
        ids = {event.execution_id for event in wanted}
        told = TaskEvent.objects.using(self._alias)
        before = set(told.filter(execution_id__in=ids).values_list("execution_id", "seq", "reason"))
        rows = (
            self._rows().filter(id__in=ids).only("id", "name", "owner_id", "tenant_id", "attempts")
        )
        executions = {row.id: row for row in rows}
        told.bulk_create(
            TaskEvent(
                id=event.id,
                execution_id=event.execution_id,
                name=row.name,
                owner_id=row.owner_id,
                tenant_id=row.tenant_id,
                seq=event.seq,
                from_status=event.from_status,
                to_status=event.to_status,
                attempt=0 if event.from_status is None else row.attempts,
                at=storable(self._at()),
                actor=event.actor,
                reason=event.reason,
            )
            for event in wanted
            if (event.execution_id, event.seq, event.reason) not in before
            and (row := executions.get(event.execution_id)) is not None
        )

    # --- rows and times --------------------------------------------------------------------------

    @property
    def _skips_locked(self) -> bool:
        return bool(self._connection.features.has_select_for_update_skip_locked)

    def _locked(self, rows: QuerySet[TaskExecution]) -> Collection[TaskExecution]:
        """The rows, locked where others can skip that; else every UPDATE finds out for itself."""
        return list(unlocked(rows))

    def _rows(self) -> QuerySet[TaskExecution]:
        return TaskExecution.objects.using(self._alias)

    def _at(self) -> datetime:
        """The database's clock, one time for the whole batch."""
        if self._now is None:
            self._now = clock(self._alias)
        return self._now

    def _later(self, seconds: float | None) -> datetime | None:
        """As it is stored."""
        return None if seconds is None else storable(self._at() + timedelta(seconds=seconds))


def _first(due: QuerySet[TaskExecution], limit: int) -> list[QuerySet[TaskExecution]]:
    """The first of these, for each status apart.

    An index has them in the order wanted: none is read, and none is locked, but for these.
    """
    ordered = due.only("id", "priority", "seq", "owner_id").order_by("-priority", "id")
    return [ordered.filter(status=status)[:limit] for status in sorted(WAITING)]


def _place(row: TaskExecution) -> tuple[int, UUID]:
    return -row.priority, row.id


def _parts(rows: Sequence[NewExecution]) -> Iterator[list[NewExecution]]:
    part: list[NewExecution] = []
    size = 0
    for new in rows:
        size += len(new.arguments)
        if part and size > MOST_BYTES:
            yield part
            part, size = [], len(new.arguments)
        part.append(new)
    yield part


def _json(text: str) -> Any:
    """JSON text for a JSON column, which is not to be encoded once more."""
    return Value(text, output_field=TextField())


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
