"""One batch on any database: an UPDATE for each row, whose WHERE names what a decision went by.

It needs no more of the database than transactions and rowcounts. Where rows can be locked and
locked ones skipped (MariaDB from 10.6, MySQL from 8, Oracle), processes do not wait for each other.
Slower than `sql.batch` by the round trip per row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks.ledger.audit import Event
from rail_async_tasks.ledger.batch import Batch, Cursor
from rail_async_tasks.ledger.locks import without_waiting
from rail_async_tasks.ledger.operations import Claim
from rail_async_tasks.ledger.portable import attempts, audit, claims, creations, recoveries
from rail_async_tasks.ledger.portable.table import Table
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
from rail_async_tasks.snapshot import TaskSnapshot


class PortableBatch(Batch):
    """See `ledger.batch.Batch`. All within `transaction`: one change may take several statements.

    Statements go through Django's ORM, and so not through the cursor.
    """

    by_row = True

    def __init__(self, connection: BaseDatabaseWrapper, *, audited: bool = False) -> None:
        super().__init__(connection, audited=audited)
        self._table = Table(connection.alias)

    # --- transactions ----------------------------------------------------------------------------

    def transaction(self, cursor: Cursor) -> AbstractContextManager[None]:
        return transaction.atomic(using=self._alias)

    def group(self, cursor: Cursor, *, creates_only: bool) -> AbstractContextManager[None]:
        # On MariaDB an insert may wait for a gap: see docs/databases.md. Rows that change are
        # skipped where they are locked, which MariaDB does not do without a lock wait timeout.
        return without_waiting(self._connection) if creates_only else self.transaction(cursor)

    def without_waiting(self, cursor: Cursor) -> AbstractContextManager[None]:
        return without_waiting(self._connection)

    @property
    def skips_locked(self) -> bool:
        return self._table.skips_locked

    # --- changes ---------------------------------------------------------------------------------

    def _create(self, cursor: Cursor, rows: Sequence[NewExecution]) -> list[Created]:
        return creations.create(self._table, rows)

    def _settle(self, cursor: Cursor, outcomes: Sequence[Outcome]) -> list[Settled | None]:
        return attempts.settle_all(self._table, outcomes)

    def _progress(self, cursor: Cursor, latest: dict[UUID, Progress]) -> None:
        attempts.progress(self._table, latest)

    def _next_due(self, cursor: Cursor, *, later: bool = False) -> float | None:
        return claims.next_due(self._table, later=later)

    def survey(self, cursor: Cursor, queues: Collection[str]) -> Survey:
        return claims.survey(self._table, queues)

    def _stage(self, cursor: Cursor) -> None:
        claims.stage(self._table)

    def _claim(self, cursor: Cursor, op: Claim, part: QueueClaim) -> list[Claimed]:
        if part.suspect and not self._has_suspects():
            return []
        return claims.claim(self._table, op, part)

    def _recover(self, cursor: Cursor, recovery: Recovery, limit: int) -> list[TaskSnapshot]:
        return recoveries.recover(self._table, recovery, limit)

    def record(self, cursor: Cursor, events: Iterable[Event]) -> None:
        audit.record(self._table, events)
