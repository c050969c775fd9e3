"""Waiting for something that must happen, in a time in which it must.

`eventually` waits on a loop, `wait_for` in a thread. Both return the condition's value once it is
true, and fail with `what`, the condition's source or its last value otherwise.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, TypeVar

from rail_async_tasks import TaskError, TaskHandle, service
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.clock import is_faked

TIMEOUT = 60.0  # seconds for anything that must happen, on a machine that is busy with others
EVERY = 0.01  # seconds between two looks

T = TypeVar("T")
# What is waited for, in words, or a function that returns the state that there is instead.
What = str | Callable[[], object]


def wait_for(
    condition: Callable[[], T], what: What = "", *, timeout: float = TIMEOUT, every: float = EVERY
) -> T:
    """Return the condition's value once it is true. Raises AssertionError after `timeout`."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, _late(condition, what, timeout, found)
        time.sleep(every)
    return found


async def eventually(
    condition: Callable[[], T | Awaitable[T]],
    what: What = "",
    *,
    timeout: float = TIMEOUT,
    every: float = EVERY,
) -> T:
    """Return the condition's value once it is true; it may be a coroutine function.

    Raises AssertionError after `timeout` seconds of real time, also under a fake clock.
    """
    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + timeout
    while not (found := await _value(condition)):
        assert time.monotonic() < deadline, _late(condition, what, timeout, found)
        if is_faked(loop):
            await loop.run_in_executor(None, time.sleep, every)
        else:
            await asyncio.sleep(every)
    return found


async def no(awaited: Awaitable[object]) -> bool:
    """Return whether the awaited value is false: `eventually(lambda: no(rows.aexists()))`."""
    return not await awaited


async def _value(condition: Callable[[], T | Awaitable[T]]) -> T:
    found = condition()
    return await found if inspect.isawaitable(found) else found  # type: ignore[return-value]


def _late(condition: Callable[..., Any], what: What, timeout: float, found: object) -> str:
    if callable(what):
        return f"After {timeout:g} s there is still: {what()}"
    if what:
        return f"After {timeout:g} s still no: {what}"
    try:
        source = inspect.getsource(condition).strip()
    except OSError:
        source = repr(condition)
    return f"After {timeout:g} s it is still {found!r}: {source}"


# --- tasks ----------------------------------------------------------------------------------------


async def final(handle: TaskHandle, timeout: float = TIMEOUT) -> TaskSnapshot:
    """Return the task, read anew once it has ended."""
    with suppress(TaskError):
        await handle.aresult(timeout)
    return (await handle.arefresh()).snapshot


@asynccontextmanager
async def collected(
    snapshots: AsyncGenerator[TaskSnapshot, None],
) -> AsyncIterator[list[TaskSnapshot]]:
    """Yields what a watcher sees, once it has joined, as its first snapshot shows."""
    seen: list[TaskSnapshot] = []

    async def watch() -> None:
        async with aclosing(snapshots):
            async for snapshot in snapshots:
                seen.append(snapshot)

    watching = asyncio.create_task(watch())
    try:
        await eventually(lambda: seen)
        yield seen
    finally:
        watching.cancel()
        await asyncio.wait([watching])


@asynccontextmanager
async def watched(handle: TaskHandle) -> AsyncIterator[list[TaskSnapshot]]:
    """Yields what a watcher of the task sees, once it has joined: it misses nothing from then on.

    For states that do not last. The body must wait until the block has begun.
    """
    async with collected(service.watch(SYSTEM, handle.id)) as seen:
        yield seen


async def until_status(handle: TaskHandle, status: str) -> TaskSnapshot:
    """Return the task as it was when it had that status, which it must come to.

    It must stay there until it is seen; see `watched` for a status that does not last.
    """
    snapshots: AsyncIterator[TaskSnapshot] = service.watch(SYSTEM, handle.id)
    async with asyncio.timeout(TIMEOUT), aclosing(snapshots):  # type: ignore[type-var]
        async for snapshot in snapshots:
            if snapshot.status == status:
                return snapshot
    raise AssertionError(f"The task ended without having been {status}.")
