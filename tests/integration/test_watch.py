"""The events that a subscriber sees, whenever it joins."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from rail_async_tasks import Fail, Retry, TaskHandle, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.runtimes import Configure
from tests.support.waiting import TIMEOUT, final

pytestmark = pytest.mark.usefixtures("ends_cleanly", "loop_kind")

AT_ONCE = 10
SHORT, LONG = 40, 200
ENDS = ("returns", "fails", "retries", "is cancelled")
FINAL_STATUS = dict(zip(ENDS, ("completed", "failed", "completed", "cancelled"), strict=True))


@pytest.mark.parametrize("times", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
async def test_a_subscriber_may_join_at_any_time(configure: Configure, times: int) -> None:
    """`(seq, step)` only grows, and the one final state is the last thing to be seen."""
    configure(progress_interval_seconds=0.002, retry_delay=0.005)

    @task(name="w.climb")
    async def climb(info: Any, steps: int, pause: float, end: str) -> int:
        for step in range(steps):
            info.context.task.update_progress(100 * step // steps, f"step {step}")
            await asyncio.sleep(pause)
        if end == "fails":
            raise Fail("as asked")
        if end == "retries" and info.context.task.attempt == 1:
            raise Retry(delay=0.005)
        if end == "is cancelled":
            await asyncio.Event().wait()
        return steps

    async def once(dice: random.Random) -> str:
        end = dice.choice(ENDS)
        steps, pause = dice.randint(0, 8), dice.uniform(0, 0.004)
        delay = dice.choice([0, 0, 0.01])
        handle = await climb.using(delay=delay).aenqueue(steps=steps, pause=pause, end=end)
        # From before the start to well after the end.
        joins = [dice.uniform(0, 0.06) for _ in range(2)] + [0.0]
        watchers = [asyncio.ensure_future(watch(handle, join, dice)) for join in joins]
        if end == "is cancelled":
            await asyncio.sleep(dice.uniform(0, 0.04))
            await handle.acancel()
        last = await final(handle)
        assert last.status == FINAL_STATUS[end]
        for seen in await asyncio.gather(*watchers):
            check(seen, last)
        check(await watch(handle, 0, dice), last)
        return end

    seeds = iter(range(times))

    async def in_turn() -> list[str]:
        return [await once(random.Random(seed)) for seed in seeds]

    ends = await asyncio.gather(*(in_turn() for _ in range(AT_ONCE)))
    assert sorted({end for some in ends for end in some}) == sorted(ENDS)
    assert sum(map(len, ends)) == times


async def watch(handle: TaskHandle, join: float, dice: random.Random) -> list[TaskSnapshot]:
    """Everything that a subscriber sees who joins so many seconds from now."""
    await asyncio.sleep(join)
    slow = dice.random() < 0.3
    seen: list[TaskSnapshot] = []
    snapshots: AsyncIterator[TaskSnapshot] = service.watch(SYSTEM, handle.id)
    async with asyncio.timeout(TIMEOUT), aclosing(snapshots):  # type: ignore[type-var]
        async for snapshot in snapshots:
            seen.append(snapshot)
            if slow:
                await asyncio.sleep(0.01)
    return seen


def check(seen: list[TaskSnapshot], last: TaskSnapshot) -> None:
    versions = [snapshot.version for snapshot in seen]
    assert versions == sorted(set(versions))
    assert [snapshot.is_final for snapshot in seen] == [False] * (len(seen) - 1) + [True]
    assert seen[-1] == last
