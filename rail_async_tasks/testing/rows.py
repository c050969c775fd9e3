"""The executions of a test, in either ledger: reads, and what a clock that moves changes."""

from __future__ import annotations

import heapq
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
from django.db import router
from django.db.models import F, Q

from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.orm.queue_states import paused_rows
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.rows import now, snapshot_of, snapshot_rows
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import FINAL, WAITING

# The times of a row that the clock is compared with, or that are read beside such a time.
_TIMES: Final = (
    "created_at",
    "updated_at",
    "run_after",
    "started_at",
    "completed_at",
    "expires_at",
)


class Rows(Protocol):
    """Reads and changes of all rows."""

    def since(self, start: UUID) -> list[TaskSnapshot]:
        """Returns the executions whose ids are greater, oldest first; expired ones too."""
        ...

    def next_due(self, names: frozenset[str], only: UUID | None) -> UUID | None:
        """Returns the oldest execution that is due, of these tasks; `only` that one if given.

        Those of paused queues wait.
        """
        ...

    def advance(self, by: timedelta) -> None:
        """Puts all times of all rows so far back as if that time had passed since."""
        ...


def rows_of(ledger: Ledger) -> Rows:
    """Returns the rows of the ledger."""
    if isinstance(ledger, MemoryLedger):
        return _MemoryRows(ledger)
    return _OrmRows()


class _OrmRows:
    def __init__(self) -> None:
        self._alias = router.db_for_write(TaskExecution)

    def since(self, start: UUID) -> list[TaskSnapshot]:
        found = snapshot_rows(self._alias).filter(id__gt=start).order_by("id")
        return [snapshot_of(row) for row in found]

    def next_due(self, names: frozenset[str], only: UUID | None) -> UUID | None:
        rows = TaskExecution.objects.using(self._alias)
        waiting = rows.filter(status__in=sorted(WAITING), name__in=sorted(names))
        if only is not None:
            waiting = waiting.filter(id=only)
        waiting = waiting.exclude(queue__in=paused_rows(self._alias).values("name"))
        due = waiting.filter(Q(run_after__isnull=True) | Q(run_after__lte=now(self._alias)))
        return due.order_by("id").values_list("id", flat=True).first()

    def advance(self, by: timedelta) -> None:
        earlier: dict[str, Any] = {column: F(column) - by for column in _TIMES}
        TaskExecution.objects.using(self._alias).update(**earlier)


class _MemoryRows:
    def __init__(self, ledger: MemoryLedger) -> None:
        self._store = ledger.store

    def since(self, start: UUID) -> list[TaskSnapshot]:
        with self._store.lock:
            found = [it.snapshot for it in self._store.rows.values() if it.snapshot.id > start]
        return sorted(found, key=lambda snapshot: snapshot.id)

    def next_due(self, names: frozenset[str], only: UUID | None) -> UUID | None:
        at = self._store.now()
        with self._store.lock:
            waiting = [
                it.snapshot
                for it in self._store.rows.values()
                if it.snapshot.status in WAITING
                and it.snapshot.name in names
                and only in (None, it.snapshot.id)
                and it.snapshot.queue not in self._store.pauses
            ]
        due = [it.id for it in waiting if it.run_after is None or it.run_after <= at]
        return min(due, default=None)

    def advance(self, by: timedelta) -> None:
        store = self._store
        with store.lock:
            for row in store.rows.values():
                times = {name: getattr(row.snapshot, name) for name in _TIMES}
                earlier = {name: at - by for name, at in times.items() if at is not None}
                row.snapshot = msgspec.structs.replace(row.snapshot, **earlier)
                if row.snapshot.status in WAITING and row.snapshot.run_after is not None:
                    store.wait(row)
                if row.snapshot.status in FINAL and row.snapshot.expires_at is not None:
                    heapq.heappush(store.expiring, (row.snapshot.expires_at, row.snapshot.id))
