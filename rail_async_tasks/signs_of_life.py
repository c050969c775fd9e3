"""Signs of life in streams: proxies close a connection that is silent for 30 or 60 seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

T = TypeVar("T")


async def with_signs_of_life(
    events: AsyncGenerator[T, None], sign: T, seconds: float
) -> AsyncGenerator[T, None]:
    """Yields the events, and `sign` after so many seconds without one.

    A task of its own reads the events, for the whole stream: one each would cost more than what it
    reads. It is one event ahead of the reader at most. It closes the events where the stream is
    closed first: that awaits nothing, as a loop that ends closes all generators at once.
    """
    slot = _Slot[T]()
    reading = asyncio.create_task(slot.fill(events))
    reading.add_done_callback(_retrieve)
    try:
        while True:
            if slot.items:
                yield slot.take()
            elif slot.ended:
                await reading  # raises what the events raised
                return
            elif not await slot.changes_within(seconds):
                yield sign
    finally:
        reading.cancel()


def _retrieve(reading: asyncio.Task[None]) -> None:
    """Takes note of an error that no reader awaits any more."""
    if not reading.cancelled():
        reading.exception()


class _Slot(Generic[T]):
    """Holds one event between the task that reads it and the stream that yields it."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self.ended = False
        self._change: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None

    async def fill(self, events: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    if self.items:
                        self._taken = asyncio.get_running_loop().create_future()
                        await self._taken
                    self.items.append(event)
                    _wake(self._change)
        finally:
            self.ended = True
            _wake(self._change)

    def take(self) -> T:
        _wake(self._taken)
        return self.items.pop()

    async def changes_within(self, seconds: float) -> bool:
        """Waits for an event or the end; returns whether one of them has come."""
        loop = asyncio.get_running_loop()
        self._change = loop.create_future()
        timer = loop.call_later(seconds, _wake, self._change)
        try:
            await self._change
        finally:
            timer.cancel()
        return bool(self.items) or self.ended


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
