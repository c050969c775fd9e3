"""Sends what waits in the outbox to Redis, on one connection, in one write for many."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from rail_async_tasks.bus.failures import bus_backoff
from rail_async_tasks.bus.link import Command, Describe, Link, Open
from rail_async_tasks.bus.outbox import Outbox, Parcel
from rail_async_tasks.bus.wire import encode

# Executions whose news are sent in one write.
BATCH = 500
# Between two writes, in seconds: what changes twice meanwhile is told once.
PAUSE = 0.01
# What the server gets to answer, in seconds.
PATIENCE = 3.0


class Publisher:
    """On one event loop. News that could not be sent wait in the outbox, while there is room."""

    def __init__(self, open_link: Open, describe: Describe, channel: Callable[[str], str]) -> None:
        self._open = open_link
        self._describe = describe
        self._channel = channel
        self._outbox = Outbox()
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._woken = False
        self._link: Link | None = None
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
        """Executions whose news have not been sent."""
        return len(self._outbox) + self._sending

    def put(self, parcel: Parcel) -> None:
        """From any thread. Never blocks, never raises."""
        self._outbox.put(parcel)
        if not self._woken:
            self._woken = True
            if asyncio._get_running_loop() is self._loop:
                self._filled.set()
            else:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody sends it
                    self._loop.call_soon_threadsafe(self._filled.set)

    async def run(self) -> None:
        """Sends, and goes on after any failure. Ends by being cancelled."""
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                # Cleared before the outbox is emptied: who puts something in now wakes it again.
                self._woken = False
                await self._empty()
        finally:
            await self._close()

    async def _empty(self) -> None:
        while len(self._outbox):
            batch: list[Parcel] = []
            try:
                async with asyncio.timeout(PATIENCE):
                    link = await self._fresh_link()
                    self._sending = True
                    batch = self._outbox.take(BATCH)
                    await self._send(link, batch)
            except Exception as error:  # noqa: BLE001 (whatever the driver raises)
                await self._close()
                self._sending = False
                for parcel in batch:  # perhaps told twice: a version that is known tells nothing
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

    async def _fresh_link(self) -> Link:
        if self._link is not None and not await self._link.is_fresh():
            await self._close()  # the server has closed it while there was nothing to send
        if self._link is None:
            self._link = await self._open()
        return self._link

    async def _send(self, link: Link, batch: list[Parcel]) -> None:
        commands: list[Command] = []
        for parcel in batch:
            data = encode(parcel.news)
            commands += [("PUBLISH", self._channel(topic), data) for topic in parcel.topics]
        await link.send(commands)
        for _ in commands:
            await link.receive()

    async def flush(self, seconds: float) -> None:
        """The end: returns when all has been sent, or the time is over, or there is no server."""
        self._idle.clear()
        self._hurried.set()
        if self.backoff.failing or not self.waiting:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)

    async def _close(self) -> None:
        if self._link is not None:
            await self._link.close()
            self._link = None
