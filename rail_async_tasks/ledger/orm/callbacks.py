"""Reserved failure callbacks: `callback_at` is when another process may take one."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import transaction

from rail_async_tasks.ledger.edges import CALLBACK_MADE, KEEP_CALLBACK
from rail_async_tasks.ledger.locks import unlocked, update_unlocked
from rail_async_tasks.ledger.orm.isolation import retried
from rail_async_tasks.ledger.orm.part import OrmPart
from rail_async_tasks.ledger.rows import now, snapshot_of
from rail_async_tasks.ledger.updates import database_moment, values_of
from rail_async_tasks.snapshot import TaskSnapshot


class OrmCallbacks(OrmPart):
    """See `upkeep.Callbacks`."""

    async def take_overdue(
        self, hold: float, limit: int, besides: Collection[UUID]
    ) -> list[tuple[TaskSnapshot, str | None]]:
        return await self._threads.run_once(lambda: self._take_overdue(hold, limit, besides))

    def _take_overdue(
        self, hold: float, limit: int, besides: Collection[UUID]
    ) -> list[tuple[TaskSnapshot, str | None]]:
        overdue = self._rows().filter(callback_at__lte=now(self.alias)).exclude(id__in=besides)
        if not overdue.exists():  # a transaction on SQLite takes the one write lock
            return []
        with transaction.atomic(using=self.alias):
            rows = list(unlocked(overdue.order_by("callback_at"))[:limit])
            # The process that moves the time on has reserved it.
            mine = self._rows().filter(id__in=[row.id for row in rows])
            mine.update(**values_of(KEEP_CALLBACK, database_moment(self.alias), hold=hold))
        return [(snapshot_of(row), row.traceback) for row in rows]

    async def keep(self, execution_ids: Collection[UUID], hold: float) -> None:
        kept = self._rows().filter(id__in=execution_ids, callback_at__isnull=False)
        values = values_of(KEEP_CALLBACK, database_moment(self.alias), hold=hold)
        await self._threads.run(lambda: update_unlocked(kept, **values))

    async def made(self, execution_ids: Collection[UUID]) -> set[UUID]:
        made = self._rows().filter(id__in=execution_ids, callback_at__isnull=False)
        values = values_of(CALLBACK_MADE, database_moment(self.alias))
        return (await self._threads.run(lambda: update_unlocked(made, **values))).locked

    @retried
    def made_here(self, execution_id: UUID) -> None:
        values = values_of(CALLBACK_MADE, database_moment(self.alias))
        self._rows().filter(id=execution_id).update(**values)
