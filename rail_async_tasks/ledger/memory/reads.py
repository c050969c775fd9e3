"""Reads of executions and counts for admission. None blocks."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from rail_async_tasks.ledger.memory.store import MemoryPart
from rail_async_tasks.ledger.records import TOLERANCE, Page, Survey
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import UNFINISHED, WAITING


class MemoryReads(MemoryPart):
    """See `port.Reads` and `port.LoopReads`."""

    blocking = False

    def get(self, execution_id: UUID) -> TaskSnapshot | None:
        row = self.store.rows.get(execution_id)
        return None if row is None or self.store.is_expired(row) else row.snapshot

    def get_many(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        found = (self.get(execution_id) for execution_id in execution_ids)
        return [snapshot for snapshot in found if snapshot is not None]

    def arguments(self, execution_id: UUID) -> str | None:
        row = self.store.rows.get(execution_id)
        return None if row is None else row.arguments

    def language(self, execution_id: UUID) -> str | None:
        row = self.store.rows.get(execution_id)
        return None if row is None else row.language

    def tracebacks(self, execution_ids: Collection[UUID]) -> dict[UUID, str]:
        rows = ((it, self.store.rows.get(it)) for it in execution_ids)
        return {
            it: row.traceback
            for it, row in rows
            if row is not None and row.traceback is not None and not self.store.is_expired(row)
        }

    def page(self, page: Page) -> list[TaskSnapshot]:
        found = self._on(page)
        if page.results:
            return found
        return [msgspec.structs.replace(snapshot, result=None) for snapshot in found]

    def result_bytes(self, page: Page) -> int:
        results = (snapshot.result for snapshot in self._on(page))
        return sum(len(msgspec.json.encode(it)) for it in results if it is not None)

    def _on(self, page: Page) -> list[TaskSnapshot]:
        matching = [snapshot for snapshot in self._visible() if _matches(snapshot, page)]
        return heapq.nlargest(page.limit, matching, key=lambda snapshot: snapshot.id)

    def ended_lately(self, owner_id: str, tenant_id: str | None, seconds: float) -> list[UUID]:
        since = self.store.now() - timedelta(seconds=seconds)
        rows = self._snapshots()
        theirs = [it for it in rows if (it.owner_id, it.tenant_id) == (owner_id, tenant_id)]
        return [it.id for it in theirs if it.is_final and it.updated_at >= since]

    def ping(self) -> None: ...

    async def reread(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        return self.get_many(execution_ids)

    async def changed_lately(
        self, owner_ids: Collection[str], seconds: float
    ) -> list[TaskSnapshot]:
        now = self.store.now()
        since, until = now - timedelta(seconds=seconds), now + TOLERANCE
        theirs = [it for it in self._visible() if it.owner_id in owner_ids]
        changed = [it for it in theirs if since <= it.updated_at <= until]
        return sorted(changed, key=lambda snapshot: snapshot.updated_at)

    async def queues(self) -> Sequence[str]:
        return [queue for queue, heap in self.store.due.items() if heap]

    async def survey(self, queues: Collection[str]) -> Survey:
        with self.store.lock:
            next_due = self.store.stage()
            return Survey(
                waiting=frozenset(filter(self.store.any_due, queues)),
                next_due=next_due,
                paused=frozenset(self.store.pauses),
            )

    def _snapshots(self) -> list[TaskSnapshot]:
        with self.store.lock:
            return [row.snapshot for row in self.store.rows.values()]

    def _visible(self) -> list[TaskSnapshot]:
        store = self.store
        with store.lock:
            return [row.snapshot for row in store.rows.values() if not store.is_expired(row)]


class MemoryCounts(MemoryPart):
    """See `port.Counts`."""

    def count_waiting(self, owner_id: str | None, at_most: int) -> int:
        with self.store.lock:
            rows = [row.snapshot for row in self.store.rows.values()]
        return sum(
            snapshot.status in WAITING and owner_id in (None, snapshot.owner_id)
            for snapshot in rows
        )

    def nth_newest(
        self, owner_id: str | None, since: UUID, until: UUID, n: int, besides: Collection[UUID]
    ) -> UUID | None:
        with self.store.lock:
            ids = [
                execution_id
                for execution_id, row in self.store.rows.items()
                if since <= execution_id < until
                and row.snapshot.owner_id == owner_id
                and execution_id not in besides
            ]
        return heapq.nlargest(n, ids)[-1] if len(ids) >= n else None

    def unfinished(self, execution_ids: Collection[UUID]) -> dict[UUID, str]:
        rows = ((it, self.store.rows.get(it)) for it in execution_ids)
        return {
            it: row.snapshot.status
            for it, row in rows
            if row is not None and not row.snapshot.is_final
        }


def _matches(snapshot: TaskSnapshot, page: Page) -> bool:
    mine = (snapshot.owner_id, snapshot.tenant_id) == (page.owner_id, page.tenant_id)
    wanted: tuple[tuple[Any, Any], ...] = (
        (page.status, snapshot.status),
        (page.name, snapshot.name),
        (page.queue, snapshot.queue),
    )
    return (
        (page.everyone or mine)
        and all(want is None or want == has for want, has in wanted)
        and (not page.unfinished or snapshot.status in UNFINISHED)
        and (page.after is None or snapshot.id < page.after)
    )
