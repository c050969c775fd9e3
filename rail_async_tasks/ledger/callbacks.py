"""Reserved failure callbacks in the database: `callback_at` is when another process may take one.

Through Django's ORM, on any database.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from rail_async_tasks.ledger.isolation import retried
from rail_async_tasks.ledger.locks import Changed, unlocked, update_unlocked
from rail_async_tasks.ledger.rows import now, snapshot_of
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot


class OrmCallbacks:
    """See `upkeep.Callbacks`.

    `look` runs a call in a writer's thread, on its connection; `once` does, and fails where the
    database does.
    """

    def __init__(
        self,
        alias: str,
        look: Callable[[Callable[[], Any]], Any],
        once: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self.alias = alias
        self._look = look
        self._once = once

    async def take_overdue(
        self, hold: float, limit: int, besides: Collection[UUID]
    ) -> list[tuple[TaskSnapshot, str | None]]:
        taken: list[tuple[TaskSnapshot, str | None]]
        taken = await self._once(lambda: self._take_overdue(hold, limit, besides))
        return taken

    def _take_overdue(
        self, hold: float, limit: int, besides: Collection[UUID]
    ) -> list[tuple[TaskSnapshot, str | None]]:
        at = now(self.alias)
        overdue = self._rows().filter(callback_at__lte=at).exclude(id__in=besides)
        if not overdue.exists():  # a transaction on SQLite takes the one write lock
            return []
        with transaction.atomic(using=self.alias):
            rows = list(unlocked(overdue.order_by("callback_at"))[:limit])
            # The process that moves the time on has reserved it.
            mine = self._rows().filter(id__in=[row.id for row in rows])
            mine.update(callback_at=at + timedelta(seconds=hold))
        return [(snapshot_of(row), row.traceback) for row in rows]

    async def keep(self, execution_ids: Collection[UUID], hold: float) -> None:
        kept = self._rows().filter(id__in=execution_ids, callback_at__isnull=False)
        until = now(self.alias) + timedelta(seconds=hold)
        await self._look(lambda: update_unlocked(kept, callback_at=until))

    async def made(self, execution_ids: Collection[UUID]) -> set[UUID]:
        made = self._rows().filter(id__in=execution_ids, callback_at__isnull=False)
        changed: Changed = await self._look(lambda: update_unlocked(made, callback_at=None))
        return changed.locked

    @retried
    def made_here(self, execution_id: UUID) -> None:
        self._rows().filter(id=execution_id).update(callback_at=None)

    def _rows(self) -> QuerySet[TaskExecution]:
        return TaskExecution.objects.using(self.alias)
