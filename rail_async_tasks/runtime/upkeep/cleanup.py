"""The clean-up: deletes executions that have expired, a few at a time, in the background."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import msgspec

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.ledger.records import Disposal
from rail_async_tasks.ledger.rollups import Rollups
from rail_async_tasks.ledger.upkeep import AuditLog, Deletions
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

logger = get_logger("rail_async_tasks.runtime")

# Rows in one statement and transaction: 5 to 20 ms of a database's time.
BATCH = 500

# One batch of deletions, which returns how many rows it has deleted.
Batch = Callable[[], Coroutine[Any, Any, int]]


class CleanupTimings(msgspec.Struct, frozen=True, kw_only=True):
    """When the clean-up works and rests, in seconds."""

    # Between two rounds, give or take `jitter`: processes that were started together must not come
    # together. An expired execution is hidden at once, so no reader waits for its deletion.
    interval: float = 60.0
    jitter: float = 0.25  # a share of the interval
    # After a batch it pauses for so many times as long as the batch took, so that deletions use at
    # most a fifth of the writer; and at least for `shortest_rest`.
    rest: float = 4.0
    shortest_rest: float = 0.05


class Cleaner:
    """Deletes expired executions, old audit rows and old roll-ups, every minute or so.

    Args:
        events_days: for so many days audit rows are kept; None without an audit.
        batch: rows of one deletion.
        uniform: returns a random number between its two arguments.
    """

    def __init__(
        self,
        *,
        deletions: Deletions,
        audit_log: AuditLog | None = None,
        events_days: float | None = None,
        rollups: Rollups | None = None,
        batch: int = BATCH,
        timings: CleanupTimings = CleanupTimings(),  # noqa: B008 (frozen)
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._deletions = deletions
        self._audit_log = audit_log
        self._events_days = events_days
        self._rollups = rollups
        self._batch = batch
        self._timings = timings
        self._uniform = uniform
        self._stop = asyncio.Event()
        self._backoff = Backoff("Expired tasks could not be deleted", log=logger)

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Cleans until `stop`."""
        times = self._timings
        # A process that is started often must clean too, so the first round comes early.
        await self._pause(times.interval * self._uniform(0, 0.5))
        while not self._stop.is_set():
            try:
                await self.clean()
            except Exception as error:
                self._backoff.failed(describe(error), error)
            else:
                self._backoff.recovered()
            await self._pause(times.interval * self._uniform(1 - times.jitter, 1 + times.jitter))

    async def clean(self) -> None:
        """Deletes all that has expired by now, except rows that another process is deleting."""
        await self._delete("expired tasks", lambda: self._deletions.delete_expired(self._batch))
        days, log = self._events_days, self._audit_log
        if days is not None and log is not None:
            await self._delete("audit rows", lambda: log.delete(days, self._batch))
        rollups = self._rollups
        if rollups is not None:
            await self._delete("roll-ups", lambda: rollups.delete_old(self._batch))

    async def _delete(self, rows: str, batch: Batch) -> None:
        loop, total, times = asyncio.get_running_loop(), 0, self._timings
        while not self._stop.is_set():
            began = loop.time()
            count = await self._until_stopped(batch)
            total += count
            if count < self._batch:
                break
            await self._pause(max(times.shortest_rest, times.rest * (loop.time() - began)))
        if total:
            logger.debug("Deleted: %d %s", total, rows)

    async def _until_stopped(self, delete: Batch) -> int:
        """Deletes one batch. A database that is away must not hold up the end of the process."""
        batch = asyncio.ensure_future(delete())
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({batch, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return batch.result() if batch.done() else 0
        finally:
            batch.cancel()
            stopped.cancel()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)


def batches(ledger: Deletions, which: Disposal, size: int) -> Iterator[int]:
    """Deletes in batches, each a transaction of its own; yields how many rows each deleted.

    For code that is not async.
    """
    while count := ledger.dispose(which, size):
        yield count
