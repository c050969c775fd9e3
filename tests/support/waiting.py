"""Waiting for something that must happen, in a time in which it must."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any

from rail_async_tasks import TaskError, TaskHandle, service
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.snapshot import TaskSnapshot

PATIENCE = 20.0  # seconds


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Returns once the condition holds; for what gives no signal of its own."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (nobody would set an event)
            await asyncio.sleep(0.002)


async def final(handle: TaskHandle, seconds: float = PATIENCE) -> TaskSnapshot:
    """The task, read anew once it has ended."""
    with suppress(TaskError):
        await handle.aresult(seconds)
    return (await handle.arefresh()).snapshot


async def until_status(handle: TaskHandle, status: str) -> TaskSnapshot:
    """The task as it was when it had that status, which it must come to."""
    snapshots: AsyncIterator[TaskSnapshot] = service.watch(SYSTEM, handle.id)
    async with asyncio.timeout(PATIENCE), aclosing(snapshots):  # type: ignore[type-var]
        async for snapshot in snapshots:
            if snapshot.status == status:
                return snapshot
    raise AssertionError(f"The task ended without having been {status}.")


async def poll(
    condition: Callable[[], Any], seconds: float, every: float = 0.05, what: Any = ""
) -> Any:
    """What the coroutine function gives, once that is true; which it must be in that time."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        await asyncio.sleep(every)
    return found
