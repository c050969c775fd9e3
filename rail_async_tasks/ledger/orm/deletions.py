"""Deletions: expired and old executions, and old audit rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import DO_NOTHING, PROTECT, RESTRICT, Exists, OuterRef, Q, QuerySet

from rail_async_tasks.ledger.locks import unlocked
from rail_async_tasks.ledger.orm.isolation import retried
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.orm.threads import WriterThreads
from rail_async_tasks.ledger.records import Disposal
from rail_async_tasks.ledger.rows import now
from rail_async_tasks.models import TaskEvent, TaskExecution
from rail_async_tasks.states import FINAL


class OrmDeletions(OrmPart):
    """See `upkeep.Deletions`."""

    async def delete_expired(self, limit: int) -> int:
        # By the writer, so that it never competes with one (on SQLite for the one write lock).
        return await delete_aside(
            self.alias, self._threads, lambda: self._dispose_expired(Disposal(), limit)
        )

    @retried
    def dispose(self, which: Disposal, limit: int) -> int:
        count = self._dispose_expired(which, limit)
        if which.age is not None and count < limit:
            # By id, which is the order of creation: those that have ended long ago come first.
            aged = self._aged(which, which.age).order_by("id")
            count += _delete(aged, limit - count, self._options.max_deleted)
        return count

    @retried
    def count_disposable(self, which: Disposal) -> int:
        rows = self._expired(which)
        rows = rows if which.age is None else rows | self._aged(which, which.age)
        return _unprotected(rows).count()

    def _dispose_expired(self, which: Disposal, limit: int) -> int:
        expired = self._expired(which).order_by("expires_at")
        return _delete(expired, limit, self._options.max_deleted)

    def _expired(self, which: Disposal) -> QuerySet[TaskExecution]:
        return self._ended(which).filter(expires_at__lte=now(self.alias))

    def _aged(self, which: Disposal, age: float) -> QuerySet[TaskExecution]:
        before = now(self.alias) - timedelta(seconds=age)
        return self._ended(which).filter(completed_at__lte=before)

    def _ended(self, which: Disposal) -> QuerySet[TaskExecution]:
        """Returns final rows that no failure callback waits for; all if callbacks are off."""
        ended = self._rows().filter(status__in=sorted(which.statuses & FINAL))
        return ended.filter(Q(callback_at__isnull=True) if self._options.callbacks else Q())


class OrmAuditLog(OrmPart):
    """See `upkeep.AuditLog`."""

    async def delete(self, days: float, limit: int) -> int:
        before = now(self.alias) - timedelta(days=days)
        old = TaskEvent.objects.using(self.alias).filter(at__lt=before).order_by("at")
        return await delete_aside(
            self.alias, self._threads, lambda: _delete(old, limit, self._options.max_deleted)
        )


async def delete_aside(alias: str, threads: WriterThreads, delete: Callable[[], int]) -> int:
    """Deletes in a writer's thread; returns the count.

    Deletes nothing, and returns 0, where rows of the project's that refer to them are locked.
    """
    if connections[alias].vendor == "mysql":  # see `locks.without_waiting`
        return await threads.run_once(delete)
    return await threads.change_once(delete, otherwise=0)


def _delete(rows: QuerySet[Any], limit: int, page: int) -> int:
    """Deletes the first of these rows, `page` ids a statement. They are final: none changes."""
    rows = _unprotected(rows)
    table: QuerySet[Any] = QuerySet(rows.model, using=rows.db)
    features = connections[rows.db].features
    if features.has_select_for_update_skip_locked:
        rows = unlocked(rows, to_delete=True)
    elif features.allow_sliced_subqueries_with_in:
        # One statement: SQLite refuses a transaction that reads before it writes.
        return table.filter(id__in=rows.values("id")[:limit]).delete()[0]
    with transaction.atomic(using=table.db):
        ids = list(rows.values_list("id", flat=True)[:limit])
        for start in range(0, len(ids), page):
            table.filter(id__in=ids[start : start + page]).delete()
    return len(ids)


def _unprotected(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Returns the rows without those that a foreign key of the project's protects."""
    for relation in rows.model._meta.related_objects:
        if relation.on_delete in (PROTECT, RESTRICT, DO_NOTHING):
            referring: QuerySet[Any] = QuerySet(relation.related_model, using=rows.db)
            theirs = referring.filter(**{relation.field.name: OuterRef("pk")})
            rows = rows.exclude(Exists(theirs))
    return rows
