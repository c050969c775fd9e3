"""Pauses of queues, and counts by queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from uuid import UUID

from rail_async_tasks.ledger.memory.store import MemoryPart
from rail_async_tasks.ledger.queue_states import Pause, QueueCounts
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import UNFINISHED, WAITING, Status


class MemoryQueueStates(MemoryPart):
    """See `queue_states.QueueStates`."""

    async def paused_queues(self) -> Collection[str]:
        return self.pauses()

    def pauses(self) -> Mapping[str, Pause]:
        with self.store.lock:
            return dict(self.store.pauses)

    def pause_queue(self, queue: str, by: str | None) -> bool:
        with self.store.lock:
            if queue in self.store.pauses:
                return False
            self.store.pauses[queue] = Pause(self.store.now(), by)
            return True

    def resume_queue(self, queue: str, by: str | None) -> bool:
        with self.store.lock:
            return self.store.pauses.pop(queue, None) is not None

    def queue_counts(self) -> list[QueueCounts]:
        with self.store.lock:
            rows = [row.snapshot for row in self.store.rows.values()]
        by_queue: dict[str, list[TaskSnapshot]] = {}
        for row in rows:
            if row.status in UNFINISHED:
                by_queue.setdefault(row.queue, []).append(row)
        return [self._counts(queue, theirs) for queue, theirs in by_queue.items()]

    def _counts(self, queue: str, rows: list[TaskSnapshot]) -> QueueCounts:
        tally = Counter(row.status for row in rows)
        due = [
            row.created_at for row in rows if row.status == Status.PENDING and row.run_after is None
        ]
        age = (self.store.now() - min(due)).total_seconds() if due else None
        return QueueCounts(
            name=queue,
            pending=tally[Status.PENDING],
            running=tally[Status.RUNNING],
            retrying=tally[Status.RETRYING],
            oldest_seconds=None if age is None else max(age, 0.0),
        )

    def waiting_in(self, queue: str, names: Collection[str], limit: int) -> list[UUID]:
        with self.store.lock:
            rows = [row.snapshot for row in self.store.rows.values()]
        theirs = [row for row in rows if row.queue == queue and row.name in names]
        waiting = [row for row in theirs if row.status in WAITING]
        waiting.sort(key=lambda row: (-row.priority, row.id))
        return [row.id for row in waiting[:limit]]
