"""Rows in memory, with the queues and heaps that find them."""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.ledger.queue_states import Pause
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import WAITING, Status
from rail_async_tasks.token_bucket import MICROSECOND, TokenBucket

replace = msgspec.structs.replace


def utc_now() -> datetime:
    """Returns the host's time, in UTC."""
    return datetime.now(UTC)


class Row(msgspec.Struct):
    """An execution and the columns that no snapshot shows."""

    snapshot: TaskSnapshot
    arguments: str
    unique_key: str | None
    runtime_id: UUID | None = None
    token: UUID | None = None
    language: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    traceback: str | None = None


class Store:
    """All rows. `lock` makes each change one compare-and-set; every method needs it held."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self.now = now
        self.lock = threading.RLock()
        self.rows: dict[UUID, Row] = {}
        self.keys: dict[str, UUID] = {}
        # Due rows by queue, as (-priority, id); entries that are no longer due are skipped.
        self.due: dict[str, list[tuple[int, UUID]]] = defaultdict(list)
        self.delayed: list[tuple[datetime, UUID]] = []
        # Final rows by the time at which they expire: memory is not a place to keep them in.
        self.expiring: list[tuple[datetime, UUID]] = []
        self.pauses: dict[str, Pause] = {}
        # By queue with a rate: up to when its tokens are spent, and whether tasks waited for one.
        self.spent: dict[str, tuple[int | None, bool]] = {}

    def wait(self, row: Row) -> None:
        """Enters a waiting row into its queue, or among the delayed ones."""
        snapshot = row.snapshot
        if snapshot.run_after is None:
            heapq.heappush(self.due[snapshot.queue], (-snapshot.priority, snapshot.id))
        else:
            heapq.heappush(self.delayed, (snapshot.run_after, snapshot.id))

    def stage(self) -> float | None:
        """Makes due what is due; returns the seconds until the next is."""
        now = self.now()
        while self.delayed:
            at, execution_id = self.delayed[0]
            row = self.rows.get(execution_id)
            if row is None or row.snapshot.run_after != at:
                heapq.heappop(self.delayed)
            elif at > now:
                return (at - now).total_seconds()
            else:
                heapq.heappop(self.delayed)
                row.snapshot = replace(row.snapshot, run_after=None)
                self.wait(row)
        return None

    def bucket(self, queue: str, rate: RateLimit) -> TokenBucket:
        """Returns the tokens of a queue with a rate, as they stand."""
        now = round(self.now().timestamp() * MICROSECOND)
        spent_until, waited = self.spent.get(queue, (None, False))
        return TokenBucket(rate, spent_until, now, waited)

    def spend(self, queue: str, bucket: TokenBucket, tokens: int) -> TokenBucket:
        """Takes tokens; returns the bucket that is left."""
        left = bucket.left(tokens, lambda: self.any_due(queue))
        self.spent[queue] = (left.spent_until, left.waited)
        return left

    def any_due(self, queue: str) -> bool:
        """Returns whether a row of the queue is due."""
        rows = (self.rows.get(execution_id) for _, execution_id in self.due[queue])
        return any(
            row is not None and row.snapshot.status in WAITING and row.snapshot.run_after is None
            for row in rows
        )

    def held(self, execution_id: UUID, token: UUID) -> Row | None:
        """Returns the row if it runs under this token."""
        row = self.rows.get(execution_id)
        if row is None or row.token != token or row.snapshot.status != Status.RUNNING:
            return None
        return row

    def ended(self, row: Row) -> None:
        """Frees a final row's unique key, and notes when the row expires."""
        if row.unique_key is not None:
            self.keys.pop(row.unique_key, None)
            row.unique_key = None
        if row.snapshot.expires_at is not None:
            heapq.heappush(self.expiring, (row.snapshot.expires_at, row.snapshot.id))

    def expiry(self, ttl: float | None) -> datetime | None:
        """Returns when a row that ends now expires."""
        return None if ttl is None else self.now() + timedelta(seconds=ttl)

    def is_expired(self, row: Row) -> bool:
        """Returns whether reads hide the row."""
        expires_at = row.snapshot.expires_at
        return expires_at is not None and expires_at <= self.now()

    def expire(self, limit: int = 2**31) -> int:
        """Deletes expired rows; at each creation too, so that memory stays bounded."""
        if not self.expiring:
            return 0
        now, count = self.now(), 0
        while count < limit and self.expiring and self.expiring[0][0] <= now:
            if self.rows.pop(heapq.heappop(self.expiring)[1], None) is not None:
                count += 1
        return count


class MemoryPart:
    """Base of the classes that implement one small port each. `MemoryLedger` inherits from all."""

    def __init__(self, store: Store) -> None:
        self.store = store
