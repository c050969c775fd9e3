"""A subscriber's mailbox: the latest snapshot of each execution, until it is read."""

from __future__ import annotations

import asyncio
import threading
from uuid import UUID

from rail_async_tasks.snapshot import TaskSnapshot


class Mailbox:
    """Read on one event loop, filled from any thread.

    It is bounded by nature: one snapshot for each execution that is being watched. A final
    snapshot has the highest version that there is, so nothing ever takes its place.
    """

    def __init__(self, topics: int = 1) -> None:
        """`topics`: how many it is subscribed to."""
        self._topics = topics
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        # In order of arrival; a newer snapshot of an execution keeps its predecessor's place.
        self._unread: dict[UUID, TaskSnapshot] = {}
        self._reader: asyncio.Future[None] | None = None
        self._woken = False
        self._closed = False
        self.put_count = 0
        self.superseded_count = 0

    def put(self, snapshot: TaskSnapshot) -> None:
        """Stores a snapshot, unless an unread one of the same execution is as new."""
        with self._lock:
            unread = self._unread.get(snapshot.id)
            if unread is not None:
                self.superseded_count += 1
                if unread.version >= snapshot.version:
                    return
            self.put_count += 1
            self._unread[snapshot.id] = snapshot
            if self._woken:
                return
            self._woken = True
        self._wake_soon()

    def end_one(self) -> None:
        """Takes note that nothing follows on one of its topics; closes it after the last one."""
        self._topics -= 1
        if self._topics <= 0:
            self.close()

    def close(self) -> None:
        """Ends the iteration after the unread snapshots."""
        with self._lock:
            self._closed = True
            if self._woken:
                return
            self._woken = True
        self._wake_soon()

    def _wake_soon(self) -> None:
        if asyncio._get_running_loop() is self._loop:
            self._wake()
            return
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the reader's loop is closed
            self._closed = True

    def _wake(self) -> None:
        self._woken = False
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __aiter__(self) -> Mailbox:
        return self

    async def __anext__(self) -> TaskSnapshot:
        while True:
            with self._lock:
                if self._unread:
                    return self._unread.pop(next(iter(self._unread)))
                if self._closed:
                    raise StopAsyncIteration
                self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    def take(self) -> list[TaskSnapshot]:
        """Returns all unread snapshots, without waiting."""
        with self._lock:
            unread, self._unread = list(self._unread.values()), {}
        return unread

    @property
    def closed(self) -> bool:
        """Whether nothing follows: all is read, and no more comes."""
        return self._closed and not self._unread

    def __len__(self) -> int:
        return len(self._unread)
