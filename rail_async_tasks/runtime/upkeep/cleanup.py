"""The clean-up: deletes executions that have expired, a few at a time, in the background."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.records import Disposal
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")

# Seconds between two rounds, give or take a quarter: processes that were started together must not
# come together. An expired execution is hidden at once, so nobody waits for its end.
INTERVAL = 60.0
JITTER = 0.25
# Rows in one statement and transaction: 5 to 20 ms of a database's time.
BATCH = 500
# After a batch, the writer through which it went is left to the others for so many times as long as
# the batch took, and at least so many seconds.
REST = 4.0
SHORTEST_REST = 0.05

EXPIRED = Disposal()

# One batch of deletions: how many rows it was.
Batch = Callable[[], Coroutine[Any, Any, int]]


class Cleaner:
    """Deletes what has expired, every minute or so, while the runtime lives."""

    def __init__(
        self, ledger: Ledger, interval: float | None = None, events_days: float | None = None
    ) -> None:
        self._ledger = ledger
        self._events_days = events_days  # audit rows are kept so long; None without an audit
        self._interval = INTERVAL if interval is None else interval
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        # A process that is started often must clean too, so the first round comes early.
        await self._pause(self._interval * random.random() / 2)  # noqa: S311 (no secret)
        while not self._stop.is_set():
            try:
                await self._round()
            except Exception as error:
                logger.warning("Expired tasks could not be deleted: %s", error)
            spread = 1 + JITTER * (2 * random.random() - 1)  # noqa: S311
            await self._pause(self._interval * spread)

    async def _round(self) -> None:
        """Deletes all that has expired by now; rows that another process is at are left to it."""
        await self._delete("expired tasks", lambda: self._ledger.delete_expired(BATCH))
        log = self._ledger.audit_log()
        if self._events_days is not None and log is not None:
            days = self._events_days
            await self._delete("audit rows", lambda: log.delete(days, BATCH))

    async def _delete(self, what: str, batch: Batch) -> None:
        loop, total = asyncio.get_running_loop(), 0
        while not self._stop.is_set():
            began = loop.time()
            count = await self._until_stopped(batch)
            total += count
            if count < BATCH:
                break
            await self._pause(max(SHORTEST_REST, REST * (loop.time() - began)))
        if total:
            logger.debug("%d %s were deleted", total, what)

    async def _until_stopped(self, delete: Batch) -> int:
        """One batch. A database that is away must not hold up the end of the process."""
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


def batches(ledger: Ledger, which: Disposal, size: int) -> Iterator[int]:
    """Deletes in batches, each a transaction of its own; yields how many each of them deleted.

    For code that is not async.
    """
    while count := ledger.dispose(which, size):
        yield count
