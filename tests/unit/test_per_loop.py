"""A value of each event loop: made once, and gone with its loop."""

from __future__ import annotations

import asyncio
import gc
import weakref

import anyio
import pytest

from rail_async_tasks.per_loop import PerLoop


async def contend(locks: PerLoop[anyio.Lock]) -> anyio.Lock:
    """Several callers want the lock at once."""

    async def hold() -> anyio.Lock:
        lock = locks.here()
        async with lock:
            await asyncio.sleep(0)
        return lock

    held = await asyncio.gather(*(hold() for _ in range(3)))
    assert len({id(it) for it in held}) == 1
    return held[0]


def test_each_loop_has_its_own_which_ends_with_it() -> None:
    """A lock that callers have waited for, too."""
    locks = PerLoop(anyio.Lock)
    loops = [asyncio.new_event_loop() for _ in range(2)]
    first, second = (loop.run_until_complete(contend(locks)) for loop in loops)
    assert first is not second
    gone = [weakref.ref(loop) for loop in loops]
    while loops:
        loops.pop().close()
    del first, second
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_without_a_loop_there_is_none() -> None:
    with pytest.raises(RuntimeError):
        PerLoop(anyio.Lock).here()
