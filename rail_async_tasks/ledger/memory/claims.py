"""Claims, by queue and by id."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from uuid import UUID

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.store import MemoryPart, Row, replace
from rail_async_tasks.ledger.port import ClaimPlan
from rail_async_tasks.ledger.records import Claimed, ClaimResult, QueueClaim
from rail_async_tasks.states import WAITING, Status


class MemoryClaims(MemoryPart):
    """See `port.Claims`; a claim by id is one of `port.InlineAttempts`."""

    async def claim(self, plan: ClaimPlan) -> ClaimResult:
        claimed: list[Claimed] = []
        token = new_id()
        with self.store.lock:
            next_due = self.store.stage()
            for part in plan.claims():
                limit = part.limit
                bucket = None if part.rate is None else self.store.bucket(part.queue, part.rate)
                if bucket is not None:
                    limit = min(limit, bucket.tokens())
                rows = list(self._take(part, limit, plan.runtime_id, token))
                plan.took(part, len(rows))
                if bucket is not None:
                    left = self.store.spend(part.queue, bucket, len(rows))
                    if not left.tokens():
                        plan.rests(part, left.wait())
                claimed += rows
        return ClaimResult(claimed, next_due)

    def _take(
        self, part: QueueClaim, limit: int, runtime_id: UUID, token: UUID
    ) -> Iterable[Claimed]:
        heap = self.store.due[part.queue]
        passed_over = []
        count = 0
        names = frozenset(part.names)
        while heap and count < limit:
            entry = heapq.heappop(heap)
            row = self.store.rows.get(entry[1])
            if row is None or row.snapshot.status not in WAITING or row.snapshot.run_after:
                continue
            if row.snapshot.name not in names:
                passed_over.append(entry)
                continue
            count += 1
            yield self._claim(row, runtime_id, token)
        for entry in passed_over:
            heapq.heappush(heap, entry)

    def claim_here(
        self, execution_id: UUID, runtime_id: UUID, token: UUID, rate: RateLimit | None = None
    ) -> Claimed | None:
        with self.store.lock:
            row = self.store.rows.get(execution_id)
            if row is None or row.snapshot.status not in WAITING:
                return None
            if row.snapshot.queue in self.store.pauses:
                return None
            if rate is not None:
                bucket = self.store.bucket(row.snapshot.queue, rate)
                if not bucket.tokens():
                    return None
            claimed = self._claim(row, runtime_id, token)
            if rate is not None:
                self.store.spend(row.snapshot.queue, bucket, 1)
            return claimed

    def _claim(self, row: Row, runtime_id: UUID, token: UUID) -> Claimed:
        now = self.store.now()
        row.runtime_id, row.token, row.traceback = runtime_id, token, None
        row.snapshot = replace(
            row.snapshot,
            status=Status.RUNNING,
            attempts=row.snapshot.attempts + 1,
            seq=row.snapshot.seq + 1,
            step=0,
            progress=0,
            progress_message=None,
            error=None,
            error_code=None,
            error_type=None,
            run_after=None,
            started_at=now,
            updated_at=now,
        )
        return Claimed(
            row.snapshot, row.arguments, token, row.language, False, row.traceparent, row.tracestate
        )
