"""Ticks of schedules: rows of `TaskSchedule`, changed by compare-and-set."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from rail_async_tasks.ledger.orm.inserts import OrmInserts
from rail_async_tasks.ledger.records import Created, NewExecution
from rail_async_tasks.ledger.rows import now, unambiguous
from rail_async_tasks.models import TaskSchedule


class OrmSchedules(OrmInserts):
    """See `upkeep.Schedules`. A tick creates its execution in its own transaction."""

    async def schedule(self, name: str, since: datetime) -> None:
        fresh = [TaskSchedule(name=name, last_tick=unambiguous(since, self.alias))]
        schedules = TaskSchedule.objects.using(self.alias)
        await self._threads.change(lambda: schedules.bulk_create(fresh, ignore_conflicts=True))

    async def tick(self, name: str, at: datetime, new: NewExecution) -> Created | None:
        return await self._threads.change(lambda: self._tick(name, at, new))

    def _tick(self, name: str, at: datetime, new: NewExecution) -> Created | None:
        bound = unambiguous(at, self.alias)
        schedules = TaskSchedule.objects.using(self.alias)
        due = schedules.filter(name=name, last_tick__lt=bound)
        if not due.update(last_tick=bound, last_execution_id=new.id):
            return None
        created = self.create_here(new)
        if created.existing is None:
            return created
        # With a unique key: the execution of an earlier tick has not ended.
        schedules.filter(name=name).update(last_execution_id=created.existing.id)
        return None

    async def set_back(self, name: str, latest: datetime, to: datetime) -> bool:
        bound, mended = unambiguous(latest, self.alias), unambiguous(to, self.alias)

        def beyond() -> QuerySet[TaskSchedule]:
            late = TaskSchedule.objects.using(self.alias).filter(name=name, last_tick__gt=bound)
            return late.filter(last_tick__gt=now(self.alias))

        if not await self._threads.run(lambda: beyond().exists()):
            return False  # an UPDATE on SQLite takes the one write lock even where it finds nothing
        return await self._threads.change(lambda: bool(beyond().update(last_tick=mended)))
