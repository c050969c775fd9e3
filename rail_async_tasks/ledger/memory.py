"""The ledger in this process's memory: for `track_in_database=False` and for tests.

It keeps every promise of the port but durability. A lock makes each change one compare-and-set,
whatever thread it comes from; nothing blocks.
"""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.port import ClaimPlan
from rail_async_tasks.ledger.records import (
    LONGEST_DELAY_LATE,
    TOLERANCE,
    Cancelled,
    Claimed,
    ClaimResult,
    Created,
    Disposal,
    NewExecution,
    OnFault,
    Outcome,
    Page,
    Progress,
    QueueClaim,
    Settled,
)
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import FINAL, UNFINISHED, WAITING, Status, settle

_replace = msgspec.structs.replace


class _Row(msgspec.Struct):
    """An execution and what no snapshot shows."""

    snapshot: TaskSnapshot
    arguments: str
    unique_key: str | None
    runtime_id: UUID | None = None
    token: UUID | None = None


class MemoryLedger:
    """See `port.Ledger`."""

    blocking = False
    congested = False

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._rows: dict[UUID, _Row] = {}
        self._keys: dict[str, UUID] = {}
        # Due rows by queue, as (-priority, id); entries that are no longer due are skipped.
        self._due: dict[str, list[tuple[int, UUID]]] = defaultdict(list)
        self._delayed: list[tuple[datetime, UUID]] = []
        self._schedules: dict[str, datetime] = {}
        # Finished rows by the time at which they expire: memory is not a place to keep them in.
        self._expiring: list[tuple[datetime, UUID]] = []

    def start(self, on_fault: OnFault | None = None) -> None: ...

    async def stop(self) -> None: ...

    async def relieved(self) -> None: ...

    # --- edges -----------------------------------------------------------------------------------

    def create(self, new: NewExecution, done: Callable[[Created | BaseException], None]) -> None:
        done(self.create_here(new))

    def create_here(self, new: NewExecution) -> Created:
        with self._lock:
            self._expire()
            existing = self._existing(new)
            if existing is not None:
                return existing
            at = self._now()
            run_after = new.run_after if new.delay is None else at + timedelta(seconds=new.delay)
            claimed = new.token is not None
            snapshot = TaskSnapshot(
                id=new.id,
                name=new.name,
                status=Status.RUNNING if claimed else Status.PENDING,
                queue=new.queue,
                priority=new.priority,
                created_at=at,
                updated_at=at,
                max_retries=new.max_retries,
                owner_id=new.owner_id,
                tenant_id=new.tenant_id,
                parent_id=new.parent_id,
                run_after=run_after,
                attempts=1 if claimed else 0,
                seq=2 if claimed else 1,
                started_at=at if claimed else None,
            )
            row = _Row(snapshot, new.arguments, new.unique_key, new.runtime_id, new.token)
            self._rows[new.id] = row
            if new.unique_key is not None:
                self._keys[new.unique_key] = new.id
            if not claimed:
                self._wait(row)
            return Created(at, run_after)

    def _existing(self, new: NewExecution) -> Created | None:
        row = self._rows.get(new.id)
        if row is not None:  # sent twice
            return Created(row.snapshot.created_at, row.snapshot.run_after)
        if new.unique_key is None or new.unique_key not in self._keys:
            return None
        other = self._rows[self._keys[new.unique_key]].snapshot
        return Created(other.created_at, existing=other)

    def _wait(self, row: _Row) -> None:
        snapshot = row.snapshot
        if snapshot.run_after is None:
            heapq.heappush(self._due[snapshot.queue], (-snapshot.priority, snapshot.id))
        else:
            heapq.heappush(self._delayed, (snapshot.run_after, snapshot.id))

    async def claim(self, plan: ClaimPlan) -> ClaimResult:
        claimed: list[Claimed] = []
        token = new_id()
        with self._lock:
            next_due = self._stage()
            for lane in plan.claims():
                rows = list(self._take(lane, plan.runtime_id, token))
                plan.took(lane, len(rows))
                claimed += rows
        return ClaimResult(claimed, next_due)

    def _stage(self) -> float | None:
        """Makes due what is due; seconds until the next is."""
        now = self._now()
        while self._delayed:
            at, execution_id = self._delayed[0]
            row = self._rows.get(execution_id)
            if row is None or row.snapshot.run_after != at:
                heapq.heappop(self._delayed)
            elif at > now:
                return (at - now).total_seconds()
            else:
                heapq.heappop(self._delayed)
                row.snapshot = _replace(row.snapshot, run_after=None)
                self._wait(row)
        return None

    def _take(self, lane: QueueClaim, runtime_id: UUID, token: UUID) -> Iterable[Claimed]:
        heap = self._due[lane.queue]
        passed_over = []
        count = 0
        names = frozenset(lane.names)
        while heap and count < lane.limit:
            entry = heapq.heappop(heap)
            row = self._rows.get(entry[1])
            if row is None or row.snapshot.status not in WAITING or row.snapshot.run_after:
                continue
            if row.snapshot.name not in names:
                passed_over.append(entry)
                continue
            count += 1
            yield self._claim(row, runtime_id, token)
        for entry in passed_over:
            heapq.heappush(heap, entry)

    def _claim(self, row: _Row, runtime_id: UUID, token: UUID) -> Claimed:
        now = self._now()
        row.runtime_id, row.token = runtime_id, token
        row.snapshot = _replace(
            row.snapshot,
            status=Status.RUNNING,
            attempts=row.snapshot.attempts + 1,
            seq=row.snapshot.seq + 1,
            step=0,
            progress=0,
            progress_message=None,
            error=None,
            error_code=None,
            run_after=None,
            started_at=now,
            updated_at=now,
        )
        return Claimed(row.snapshot, row.arguments, token)

    def claim_here(self, execution_id: UUID, runtime_id: UUID, token: UUID) -> Claimed | None:
        with self._lock:
            row = self._rows.get(execution_id)
            if row is None or row.snapshot.status not in WAITING:
                return None
            return self._claim(row, runtime_id, token)

    def settle(
        self, outcome: Outcome, done: Callable[[Settled | BaseException | None], None]
    ) -> None:
        done(self.settle_here(outcome))

    def settle_here(self, outcome: Outcome) -> Settled | None:
        with self._lock:
            row = self._held(outcome.id, outcome.token)
            if row is None:
                return None
            before, now = row.snapshot, self._now()
            status = settle(outcome.status, cancel_requested=before.cancel_requested)
            waits = status is Status.RETRYING
            cancelled = status is Status.CANCELLED
            delay = outcome.delay if waits and outcome.delay else None
            row.runtime_id = None
            row.snapshot = _replace(
                before,
                status=status,
                seq=before.seq + 1,
                step=0,
                progress=100 if status is Status.COMPLETED else outcome.progress,
                progress_message=outcome.progress_message,
                result=None if outcome.result is None else msgspec.json.decode(outcome.result),
                error=None if cancelled else outcome.error,
                error_code="cancelled" if cancelled else outcome.error_code,
                retry_count=before.retry_count + (outcome.retried if waits else 0),
                run_after=None if delay is None else now + timedelta(seconds=delay),
                completed_at=None if waits else now,
                expires_at=None if waits else self._expiry(outcome.ttl),
                updated_at=now,
            )
            if waits:
                self._wait(row)
            else:
                self._ended(row)
            after = row.snapshot
            return Settled(
                status, after.seq, now, after.run_after, after.expires_at, after.cancel_requested
            )

    def _held(self, execution_id: UUID, token: UUID) -> _Row | None:
        row = self._rows.get(execution_id)
        if row is None or row.token != token or row.snapshot.status != Status.RUNNING:
            return None
        return row

    def _expiry(self, ttl: float | None) -> datetime | None:
        return None if ttl is None else self._now() + timedelta(seconds=ttl)

    def _ended(self, row: _Row) -> None:
        if row.unique_key is not None:
            self._keys.pop(row.unique_key, None)
            row.unique_key = None
        if row.snapshot.expires_at is not None:
            heapq.heappush(self._expiring, (row.snapshot.expires_at, row.snapshot.id))

    def _expire(self, limit: int = 2**31) -> int:
        """Lets go of what has expired; at each creation, so that memory stays bounded."""
        if not self._expiring:
            return 0
        now, count = self._now(), 0
        while count < limit and self._expiring and self._expiring[0][0] <= now:
            if self._rows.pop(heapq.heappop(self._expiring)[1], None) is not None:
                count += 1
        return count

    async def delete_expired(self, limit: int) -> int:
        with self._lock:
            return self._expire(limit)

    def dispose(self, which: Disposal, limit: int) -> int:
        with self._lock:
            ids = self._disposable(which)[:limit]
            for execution_id in ids:
                del self._rows[execution_id]
        return len(ids)

    def count_disposable(self, which: Disposal) -> int:
        with self._lock:
            return len(self._disposable(which))

    def _disposable(self, which: Disposal) -> list[UUID]:
        now = self._now()

        def may_go(row: _Row) -> bool:
            ended = row.snapshot.completed_at
            if ended is None or row.snapshot.status not in which.statuses:
                return False
            aged = which.age is not None and ended <= now - timedelta(seconds=which.age)
            return aged or self._is_expired(row)

        return [execution_id for execution_id, row in self._rows.items() if may_go(row)]

    def ping(self) -> None: ...

    def dispatches(self) -> None:
        """There is no other process that could run them."""
        return

    def leases(self) -> None:
        return None

    def recoveries(self) -> None:
        return None

    def callbacks(self) -> None:
        return None

    def audit_log(self) -> None:
        return None

    def writers(self) -> None:
        return None

    def progress(self, progress: Progress) -> None:
        self.progress_here(progress)

    def progress_here(self, progress: Progress) -> None:
        with self._lock:
            row = self._held(progress.id, progress.token)
            if row is not None:
                row.snapshot = _replace(
                    row.snapshot,
                    progress=progress.progress,
                    progress_message=progress.progress_message,
                    step=progress.step,
                    updated_at=self._now(),
                )

    def cancel(
        self,
        execution_id: UUID,
        ttl: float | None,
        actor: str | None = None,
        *,
        wait: bool = True,
    ) -> Cancelled | None:
        with self._lock:
            row = self._rows.get(execution_id)
            if row is None or self.get(execution_id) is None:
                return None
            before, now = row.snapshot, self._now()
            if before.status in FINAL:
                return Cancelled(before, changed=False)
            if before.status == Status.RUNNING:
                row.snapshot = _replace(before, cancel_requested=True, updated_at=now)
            else:
                row.snapshot = _replace(
                    before,
                    cancel_requested=True,
                    status=Status.CANCELLED,
                    seq=before.seq + 1,
                    step=0,
                    error=None,
                    error_code="cancelled",
                    run_after=None,
                    completed_at=now,
                    expires_at=self._expiry(ttl),
                    updated_at=now,
                )
                self._ended(row)
            return Cancelled(row.snapshot, changed=True)

    # --- reads -----------------------------------------------------------------------------------

    async def now(self) -> datetime:
        return self._now()

    async def schedule(self, name: str, since: datetime) -> None:
        self._schedules.setdefault(name, since)

    async def tick(self, name: str, at: datetime, new: NewExecution) -> Created | None:
        if self._schedules[name] >= at:
            return None
        self._schedules[name] = at
        created = self.create_here(new)
        return created if created.existing is None else None

    async def set_back(self, name: str, latest: datetime, to: datetime) -> bool:
        if self._schedules[name] <= latest:
            return False
        self._schedules[name] = to
        return True

    async def correct_times(self, ttl: float | None, hold: float) -> int:
        with self._lock:
            now = self._now()
            wrong = [it for it in self._rows.values() if it.snapshot.updated_at > now + TOLERANCE]
            return sum(self._correct(row, now) for row in wrong)

    def _correct(self, row: _Row, now: datetime) -> bool:
        it = row.snapshot
        ahead = it.updated_at - now
        if it.run_after is not None and it.run_after > it.updated_at:
            if it.status == Status.PENDING and ahead <= LONGEST_DELAY_LATE:
                return False
            row.snapshot = _replace(it, run_after=it.run_after - ahead, updated_at=now)
            self._wait(row)
        elif it.expires_at is not None:
            row.snapshot = _replace(it, expires_at=it.expires_at - ahead, updated_at=now)
            heapq.heappush(self._expiring, (it.expires_at - ahead, it.id))
        else:
            return False
        return True

    async def queues(self) -> Sequence[str]:
        return [queue for queue, heap in self._due.items() if heap]

    async def reread(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        return self.get_many(execution_ids)

    async def changed_lately(
        self, owner_ids: Collection[str], seconds: float
    ) -> list[TaskSnapshot]:
        now = self._now()
        since, until = now - timedelta(seconds=seconds), now + TOLERANCE
        with self._lock:
            rows = [row.snapshot for row in self._rows.values() if not self._is_expired(row)]
        theirs = [it for it in rows if it.owner_id in owner_ids]
        changed = [it for it in theirs if since <= it.updated_at <= until]
        return sorted(changed, key=lambda snapshot: snapshot.updated_at)

    def in_transaction(self) -> bool:
        return False

    def on_commit(self, callback: Callable[[], None]) -> None:
        callback()

    def get(self, execution_id: UUID) -> TaskSnapshot | None:
        row = self._rows.get(execution_id)
        return None if row is None or self._is_expired(row) else row.snapshot

    def get_many(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        found = (self.get(execution_id) for execution_id in execution_ids)
        return [snapshot for snapshot in found if snapshot is not None]

    def arguments(self, execution_id: UUID) -> str | None:
        row = self._rows.get(execution_id)
        return None if row is None else row.arguments

    def page(self, page: Page) -> list[TaskSnapshot]:
        with self._lock:
            rows = [row for row in self._rows.values() if not self._is_expired(row)]
        matching = [row.snapshot for row in rows if _matches(row.snapshot, page)]
        return heapq.nlargest(page.limit, matching, key=lambda snapshot: snapshot.id)

    def ended_lately(self, owner_id: str, tenant_id: str | None, seconds: float) -> list[UUID]:
        since = self._now() - timedelta(seconds=seconds)
        with self._lock:
            rows = [row.snapshot for row in self._rows.values()]
        theirs = [it for it in rows if (it.owner_id, it.tenant_id) == (owner_id, tenant_id)]
        return [it.id for it in theirs if it.is_final and it.updated_at >= since]

    def count_waiting(self, owner_id: str | None, at_most: int) -> int:
        with self._lock:
            rows = [row.snapshot for row in self._rows.values()]
        return sum(
            snapshot.status in WAITING and owner_id in (None, snapshot.owner_id)
            for snapshot in rows
        )

    def nth_newest(
        self, owner_id: str | None, since: UUID, until: UUID, n: int, besides: Collection[UUID]
    ) -> UUID | None:
        with self._lock:
            ids = [
                execution_id
                for execution_id, row in self._rows.items()
                if since <= execution_id < until
                and row.snapshot.owner_id == owner_id
                and execution_id not in besides
            ]
        return heapq.nlargest(n, ids)[-1] if len(ids) >= n else None

    def _is_expired(self, row: _Row) -> bool:
        expires_at = row.snapshot.expires_at
        return expires_at is not None and expires_at <= self._now()

    def __len__(self) -> int:
        return len(self._rows)


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
