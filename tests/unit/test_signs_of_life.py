"""Signs of life in a silent stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from rail_async_tasks.signs_of_life import with_signs_of_life
from tests.support.waiting import TIMEOUT

LONG = 3600.0


class Source:
    """Events that a test lets come."""

    def __init__(self, *events: int, error: Exception | None = None) -> None:
        self.queue: asyncio.Queue[int | None] = asyncio.Queue()
        for event in events:
            self.queue.put_nowait(event)
        self.taken: list[int] = []
        self.error = error
        self.closed = asyncio.Event()

    async def __call__(self) -> AsyncGenerator[int, None]:
        try:
            while (event := await self.queue.get()) is not None:
                self.taken.append(event)
                yield event
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()


async def test_events_come_in_order_to_the_end() -> None:
    """And nothing else, where they come in time."""
    source = Source(1, 2, 3)
    source.queue.put_nowait(None)
    assert [it async for it in with_signs_of_life(source(), 0, LONG)] == [1, 2, 3]
    assert source.closed.is_set()


async def test_a_pause_has_signs_of_life() -> None:
    """As many as it is long; the event after it is not lost."""
    source = Source()
    async with aclosing(with_signs_of_life(source(), 0, 0.001)) as events:
        assert [await anext(events) for _ in range(2)] == [0, 0]
        source.queue.put_nowait(1)
        while (event := await anext(events)) == 0:
            pass
        assert event == 1
    await asyncio.wait_for(source.closed.wait(), TIMEOUT)


async def test_a_slow_reader_is_waited_for() -> None:
    """One event is held for it, and one more is on its way."""
    source = Source(1, 2, 3, 4)
    async with aclosing(with_signs_of_life(source(), 0, LONG)) as events:
        assert await anext(events) == 1
        for _ in range(10):
            await asyncio.sleep(0)
        assert source.taken == [1, 2, 3]
        assert [await anext(events) for _ in range(3)] == [2, 3, 4]


async def test_an_error_comes_after_the_events_before_it() -> None:
    """As the events raised it."""
    source = Source(1, error=LookupError("at the end"))
    source.queue.put_nowait(None)
    events = with_signs_of_life(source(), 0, LONG)
    assert await anext(events) == 1
    with pytest.raises(LookupError, match="at the end"):
        await anext(events)


async def test_a_reader_that_leaves_closes_the_events() -> None:
    """Whether it waits, or has just read one."""
    for waits in (True, False):
        source = Source(1)
        events = with_signs_of_life(source(), 0, LONG)
        assert await anext(events) == 1
        if waits:
            reading = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
        await events.aclose()
        await asyncio.wait_for(source.closed.wait(), TIMEOUT)


async def test_a_loop_that_ends_closes_all_generators_at_once() -> None:
    """That of the events' reader too, while its own end is under way."""
    source = Source(1)
    inner = with_signs_of_life(source(), 0, LONG)

    async def reader() -> AsyncGenerator[int, None]:
        async with aclosing(inner):
            async for event in inner:
                yield event

    outer = reader()
    assert await anext(outer) == 1
    await asyncio.gather(inner.aclose(), outer.aclose())
    await asyncio.wait_for(source.closed.wait(), TIMEOUT)
