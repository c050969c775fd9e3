"""Publishes the events of the outbox to Redis, on one connection, many in one write."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from rail_async_tasks.bus.connection import Command, Connection, Describe, Open
from rail_async_tasks.bus.failures import bus_backoff
from rail_async_tasks.bus.outbox import Outbox, Parcel
from rail_async_tasks.bus.wire import encode

# Events in one write.
BATCH = 500
# Between two writes, in seconds: of two changes in that time one is sent.
PAUSE = 0.01
# For connecting, writing and all answers of one batch, in seconds.
BATCH_TIMEOUT = 3.0


class Publisher:
    """Runs on one event loop. Events that could not be sent go back into the outbox."""

    def __init__(
        self, open_connection: Open, describe: Describe, channel: Callable[[str], str]
    ) -> None:
        self._open = open_connection
        self._describe = describe
        self._channel = channel
        self._outbox = Outbox()
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._woken = False
        self._connection: Connection | None = None
        self._sending = False
        self._idle = asyncio.Event()
        self._hurried = asyncio.Event()
        self.backoff = bus_backoff("Publishing to Redis failed")
        self.sent_count = 0

    @property
    def dropped_count(self) -> int:
        return self._outbox.dropped_count

    @property
    def waiting(self) -> int:
        """The number of executions with an unsent event."""
        return len(self._outbox) + self._sending

    def put(self, parcel: Parcel) -> None:
        """Queues an event for sending. From any thread; never blocks, never raises."""
        self._outbox.put(parcel)
        if not self._woken:
            self._woken = True
            if asyncio._get_running_loop() is self._loop:
                self._filled.set()
            else:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._filled.set)

    async def run(self) -> None:
        """Sends events as they come, until it is cancelled. Tries again after any failure."""
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                # Cleared before the outbox is emptied, so that a `put` from now on wakes it again.
                self._woken = False
                await self._empty()
        finally:
            await self._close()

    async def _empty(self) -> None:
        while len(self._outbox):
            batch: list[Parcel] = []
            try:
                async with asyncio.timeout(BATCH_TIMEOUT):
                    connection = await self._fresh_connection()
                    self._sending = True
                    batch = self._outbox.take(BATCH)
                    await self._send(connection, batch)
            except Exception as error:  # noqa: BLE001 (whatever the driver raises)
                await self._close()
                self._sending = False
                for parcel in batch:  # may be sent twice; receivers ignore a known version
                    self._outbox.put(parcel)
                await asyncio.sleep(self.backoff.failed(self._describe(error)))
            else:
                self.backoff.recovered()
                self.sent_count += len(batch)
                self._sending = False
                if not len(self._outbox):
                    self._idle.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE):
                        await self._hurried.wait()

    async def _fresh_connection(self) -> Connection:
        if self._connection is not None and not await self._connection.is_fresh():
            await self._close()  # the server has closed it while there was nothing to send
        if self._connection is None:
            self._connection = await self._open()
        return self._connection

    async def _send(self, connection: Connection, batch: list[Parcel]) -> None:
        commands: list[Command] = []
        for parcel in batch:
            data = encode(parcel.event)
            commands += [("PUBLISH", self._channel(topic), data) for topic in parcel.topics]
        await connection.send(commands)
        for _ in commands:
            await connection.receive()

    async def flush(self, seconds: float) -> None:
        """Sends without pauses; returns when all is sent, after `seconds`, or if Redis is away."""
        self._idle.clear()
        self._hurried.set()
        if self.backoff.failing or not self.waiting:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
