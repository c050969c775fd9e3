"""The clock, ticks of schedules, and deletions."""

from __future__ import annotations

import heapq
from datetime import datetime, timedelta
from uuid import UUID

from rail_async_tasks.ledger.memory.creations import MemoryCreations
from rail_async_tasks.ledger.memory.store import MemoryPart, Row, Store, replace
from rail_async_tasks.ledger.records import (
    LONGEST_DELAY_LATE,
    TOLERANCE,
    Created,
    Disposal,
    NewExecution,
)
from rail_async_tasks.states import Status


class MemoryClock(MemoryPart):
    """See `upkeep.Clock`."""

    async def now(self) -> datetime:
        return self.store.now()

    async def correct_times(self, ttl: float | None, hold: float) -> int:
        with self.store.lock:
            now = self.store.now()
            rows = self.store.rows.values()
            wrong = [row for row in rows if row.snapshot.updated_at > now + TOLERANCE]
            return sum(_correct(self.store, row, now) for row in wrong)


def _correct(store: Store, row: Row, now: datetime) -> bool:
    """Puts off what the row waits for by as long as was meant; returns whether it does wait."""
    it = row.snapshot
    ahead = it.updated_at - now
    if it.run_after is not None and it.run_after > it.updated_at:
        if it.status == Status.PENDING and ahead <= LONGEST_DELAY_LATE:
            return False
        row.snapshot = replace(it, run_after=it.run_after - ahead, updated_at=now)
        store.wait(row)
    elif it.expires_at is not None:
        row.snapshot = replace(it, expires_at=it.expires_at - ahead, updated_at=now)
        heapq.heappush(store.expiring, (it.expires_at - ahead, it.id))
    else:
        return False
    return True


class MemorySchedules(MemoryCreations):
    """See `upkeep.Schedules`. A tick creates its execution."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._last_ticks: dict[str, datetime] = {}

    async def schedule(self, name: str, since: datetime) -> None:
        self._last_ticks.setdefault(name, since)

    async def tick(self, name: str, at: datetime, new: NewExecution) -> Created | None:
        if self._last_ticks[name] >= at:
            return None
        self._last_ticks[name] = at
        created = self.create_here(new)
        return created if created.existing is None else None

    async def set_back(self, name: str, latest: datetime, to: datetime) -> bool:
        if self._last_ticks[name] <= max(latest, self.store.now()):
            return False
        self._last_ticks[name] = to
        return True


class MemoryDeletions(MemoryPart):
    """See `upkeep.Deletions`."""

    async def delete_expired(self, limit: int) -> int:
        with self.store.lock:
            return self.store.expire(limit)

    def dispose(self, which: Disposal, limit: int) -> int:
        with self.store.lock:
            ids = self._disposable(which)[:limit]
            for execution_id in ids:
                del self.store.rows[execution_id]
        return len(ids)

    def count_disposable(self, which: Disposal) -> int:
        with self.store.lock:
            return len(self._disposable(which))

    def _disposable(self, which: Disposal) -> list[UUID]:
        now = self.store.now()

        def may_go(row: Row) -> bool:
            ended = row.snapshot.completed_at
            if ended is None or row.snapshot.status not in which.statuses:
                return False
            aged = which.age is not None and ended <= now - timedelta(seconds=which.age)
            return aged or self.store.is_expired(row)

        return [execution_id for execution_id, row in self.store.rows.items() if may_go(row)]
