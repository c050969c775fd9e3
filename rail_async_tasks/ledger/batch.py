"""A batch: the changes of one writer's round, on one connection. The base of each database's own.

`sql.batch` writes it with one statement for many rows, `portable` with one for each row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from django.db import IntegrityError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from rail_async_tasks.db_connections import DriverCursor
from rail_async_tasks.ledger import audit, rates
from rail_async_tasks.ledger.locks import is_lock_refusal
from rail_async_tasks.ledger.operations import Claim
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
    Survey,
)
from rail_async_tasks.ledger.rows import claimed_of, find_unfinished, snapshot_of, snapshot_rows
from rail_async_tasks.ledger.writer_port import AGAIN
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import WAITING, Status, settle

# Django's in a caller's thread, the driver's in a writer's.
Cursor = CursorWrapper | DriverCursor


class Batch(ABC):
    """Creations, claims, outcomes, progress and recoveries, with their audit rows."""

    # Whether a change may take several statements, which need a transaction around them.
    by_row = False

    def __init__(self, connection: BaseDatabaseWrapper, *, audited: bool = False) -> None:
        self._connection = connection
        self._audited = audited
        self._alias = connection.alias
        self._suspects: bool | None = None  # whether there are any

    # --- transactions ----------------------------------------------------------------------------

    @abstractmethod
    def transaction(self, cursor: Any) -> AbstractContextManager[None]:
        """A transaction on this connection."""

    @abstractmethod
    def without_waiting(self, cursor: Any) -> AbstractContextManager[None]:
        """A transaction whose statements fail where they would wait for a lock.

        SQLite has one lock for all writers, which this thread waits for in any case.
        """

    def group(self, cursor: Any, *, creates_only: bool) -> AbstractContextManager[None]:
        """A transaction for a batch of creations, outcomes and progress."""
        return self.transaction(cursor)

    @property
    def in_transactions(self) -> bool:
        """Returns whether one kind of change takes several statements, and so a transaction."""
        return self._audited or self.by_row

    @property
    def remote(self) -> bool:
        """Returns whether an answer can be lost on its way from the database."""
        return self._connection.vendor != "sqlite"

    @property
    @abstractmethod
    def skips_locked(self) -> bool:
        """Returns whether the database can leave out rows that another transaction has locked."""

    def _transaction(self, cursor: Any) -> AbstractContextManager[None]:
        """A transaction, where one kind of change takes one."""
        return self.transaction(cursor) if self.in_transactions else nullcontext()

    # --- creations -------------------------------------------------------------------------------

    def create(self, cursor: Cursor, rows: Sequence[NewExecution]) -> list[Created]:
        """Inserts rows; one that is there already is returned as it was created."""
        made = self._create(cursor, rows)
        if self._audited:
            self.record(cursor, audit.of_creations(zip(rows, made, strict=True)))
        return made

    def create_unique(self, cursor: DriverCursor, rows: Sequence[NewExecution]) -> list[Any]:
        """Inserts rows with unique keys; `AGAIN` for one whose key another transaction holds.

        All at once if their keys are free, else those whose keys are. What a lock holds up, or the
        batch has twice, is inserted by itself.
        """
        done: dict[UUID, Any] = {}
        firsts: dict[str | None, NewExecution] = {}
        for new in rows:
            firsts.setdefault(new.unique_key, new)
        missing = list(firsts.values())
        while len(missing) > 1:
            try:
                with self.without_waiting(cursor):
                    made = self.create(cursor, missing)
                done.update(zip((new.id for new in missing), made, strict=True))
                break
            except IntegrityError:
                taken = self._taken(missing)
                if not taken:
                    break  # the keys were freed since then
                done.update(taken)
                missing = [new for new in missing if new.id not in taken]
            except OperationalError as error:
                if not is_lock_refusal(error):
                    raise
                break
        return [
            done[new.id] if new.id in done else self._create_unique(cursor, new) for new in rows
        ]

    def _create_unique(self, cursor: DriverCursor, new: NewExecution) -> Any:
        try:
            with self.without_waiting(cursor):
                return self.create(cursor, [new])[0]
        except IntegrityError:
            return self._taken([new]).get(new.id, AGAIN)  # missing: the key was freed since then
        except OperationalError as error:
            if not is_lock_refusal(error):
                raise
            return AGAIN

    def _taken(self, rows: Sequence[NewExecution]) -> dict[UUID, Created]:
        """Returns, by the row's id, the unfinished executions that have the rows' keys.

        Leaves out a row's own: an earlier COMMIT, whose answer was lost, may have taken effect.
        """
        found = find_unfinished(self._alias, [new.unique_key for new in rows])
        return {
            new.id: Created(existing.created_at, existing=existing)
            for new in rows
            if (existing := found.get(new.unique_key)) is not None and existing.id != new.id
        }

    @abstractmethod
    def _create(self, cursor: Cursor, rows: Sequence[NewExecution]) -> list[Created]: ...

    # --- writes by an attempt --------------------------------------------------------------------

    def settle(self, cursor: Cursor, outcomes: Sequence[Outcome]) -> list[Settled | None]:
        """Ends attempts; None for one that has changed no row."""
        settled = self._settle(cursor, outcomes)
        if self._audited:
            self.record(cursor, audit.of_outcomes(zip(outcomes, settled, strict=True)))
        return settled

    @abstractmethod
    def _settle(self, cursor: Cursor, outcomes: Sequence[Outcome]) -> list[Settled | None]: ...

    def look_after(self, outcomes: Sequence[Outcome]) -> list[Any]:
        """Finds out why outcomes have changed no row; a result for each.

        Running under this token: another transaction has the row locked, so `AGAIN`. Not running,
        but the token is still there: an earlier COMMIT, whose answer was lost, did write it (the
        token stays until the next claim). Otherwise it is no longer this attempt's.
        """
        rows = TaskExecution.objects.using(self._alias).filter(id__in=[it.id for it in outcomes])
        found = {row.id: row for row in rows}
        return [_found(outcome, found.get(outcome.id)) for outcome in outcomes]

    def progress(self, cursor: Cursor, kept: Sequence[Progress], superseded: set[Any]) -> None:
        """Writes the latest progress of each row that no outcome in the batch supersedes."""
        latest = {progress.id: progress for progress in kept if progress.id not in superseded}
        if latest:
            self._progress(cursor, latest)

    @abstractmethod
    def _progress(self, cursor: Cursor, latest: dict[UUID, Progress]) -> None: ...

    # --- claims ----------------------------------------------------------------------------------

    def claim(self, cursor: DriverCursor, op: Claim) -> ClaimResult:
        """Makes due what has come due, then claims what the plan asks for."""
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
        for part in plan.claims():
            wait = None
            if part.rate is None:
                with self._transaction(cursor):
                    rows = self._claim_part(cursor, op, part)
            else:
                claim_rows = partial(self._claim_part, cursor, op)
                rows, wait = rates.claim(self._alias, part, part.rate, claim_rows)
            plan.took(part, len(rows))
            if wait is not None:
                plan.rests(part, wait)
            claimed += rows
        return ClaimResult(claimed, next_due)

    def _claim_part(self, cursor: DriverCursor, op: Claim, part: QueueClaim) -> list[Claimed]:
        rows = self._claim(cursor, op, part)
        if not rows and part.running is not None and self.skips_locked:
            # All rows of the owners whose turn it is may be locked: then this part claims the
            # first rows of any owner.
            rows = self._claim(cursor, op, msgspec.structs.replace(part, running=None))
        if self._audited:
            self.record(cursor, audit.of_claims(rows, op.plan.runtime_id))
        return rows

    @abstractmethod
    def _next_due(self, cursor: Cursor, *, later: bool = False) -> float | None:
        """Seconds until the first delayed row is due; `later`: the first of those not yet due.

        One that is due and locked is staged by a later claim, within the dispatcher's interval.
        """

    @abstractmethod
    def _stage(self, cursor: Cursor) -> None:
        """Clears `run_after` where its time has come."""

    @abstractmethod
    def _claim(self, cursor: Cursor, op: Claim, part: QueueClaim) -> list[Claimed]:
        """Claims rows of one queue; returns them in the order in which they are to start."""

    def _claimed_before(self, runtime_id: UUID, token: UUID) -> list[Claimed]:
        rows = TaskExecution.objects.using(self._alias).filter(
            runtime_id=runtime_id, token=token, status=Status.RUNNING
        )
        return [claimed_of(row, token) for row in rows.order_by("-priority", "id")]

    @abstractmethod
    def survey(self, cursor: Cursor, queues: Collection[str]) -> Survey:
        """Returns in which of these queues rows are due, the next delayed one, paused queues."""

    def _has_suspects(self) -> bool:
        if self._suspects is None:
            waiting = snapshot_rows(self._alias).filter(status__in=sorted(WAITING), crashes__gt=0)
            self._suspects = waiting.exists()
        return self._suspects

    # --- recovery --------------------------------------------------------------------------------

    def recover(self, cursor: DriverCursor, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        """Frees executions of a dead holder. A second try finds it done."""
        with self._transaction(cursor):
            freed = self._recover(cursor, recovery, limit)
            if self._audited:
                self.record(cursor, audit.of_recoveries(freed))
        return freed

    @abstractmethod
    def _recover(self, cursor: Cursor, recovery: Recovery, limit: int) -> list[TaskSnapshot]: ...

    # --- the audit -------------------------------------------------------------------------------

    @abstractmethod
    def record(self, cursor: Cursor, events: Iterable[audit.Event]) -> None:
        """Stores audit rows, in the transaction of the changes that they record."""


def _found(outcome: Outcome, row: TaskExecution | None) -> Any:
    """Returns the result of an outcome that changed no row, by the row as it stands."""
    if row is None or row.token != outcome.token:
        return None
    if row.status == Status.RUNNING:
        return AGAIN
    # Where the outcome leads, if it was written.
    meant = {outcome.status, settle(outcome.status, cancel_requested=row.cancel_requested)}
    if row.status not in meant:
        return None  # freed meanwhile by a process that took this attempt for lost
    snapshot = snapshot_of(row)
    return Settled(
        Status(row.status),
        row.seq,
        snapshot.updated_at,
        snapshot.run_after,
        snapshot.expires_at,
        snapshot.cancel_requested,
    )
