"""Notices that a server ends, whatever ends it: a signal, a request limit, a reload, its own code.

ASGI's lifespan ends last, when all connections have closed; an open stream would delay it for
ever. So the drain begins with the method in which a server closes its listeners. The modules beside
this one know which method that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.hosting.exit import call_off_exit, exit_in_time
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.servers")

# Seconds between heartbeats to a server's parent process during the drain.
BEAT_INTERVAL: Final = 1.0

Around = Callable[[Any], contextlib.AbstractAsyncContextManager[None]]


def wrap(owner: type, name: str, around: Around) -> None:
    """Puts a context manager around a server's coroutine method, once."""
    method = getattr(owner, name, None)
    if not inspect.iscoroutinefunction(method):
        unknown(f"{owner.__module__}.{owner.__qualname__}.{name}")
        return
    if hasattr(method, "rail_async_tasks"):
        return

    @functools.wraps(method)
    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Ignores another server's loop, such as one for metrics.
        if not server.lives_here():
            return await method(self, *args, **kwargs)
        async with around(self):
            return await method(self, *args, **kwargs)

    wrapped.rail_async_tasks = True  # type: ignore[attr-defined]
    setattr(owner, name, wrapped)


def unknown(name: str) -> None:
    """Logs that this version of a server does not fit its module here."""
    logger.warning(
        "%s differs from the version that is supported: tasks drain at signals and at lifespan's"
        " shutdown only, not when a request limit ends the server. Report this with the server's"
        " version.",
        name,
    )


@contextlib.asynccontextmanager
async def drained(beat: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Drains beside a server that closes down: streams first, then what runs.

    Args:
        beat: reports to the server's parent process that the server is alive. Without a report the
            parent would kill it in the middle of a long drain.
    """
    # In any other thread the server is part of a program that goes on without it.
    timed = threading.current_thread() is threading.main_thread() and exit_in_time()
    runtime = host.current()
    beating = asyncio.create_task(_beat(beat))
    server.begin_drain()
    try:
        yield
        await server.shutdown()  # lifespan's shutdown has done it, where there was one
    finally:
        beating.cancel()
    # A body that does not end holds the loop's end up, and with it the process.
    if timed and (runtime is None or not runtime.slots.leaked):
        call_off_exit()


async def _beat(beat: Callable[[], Awaitable[None]]) -> None:
    while True:
        await beat()
        await asyncio.sleep(BEAT_INTERVAL)
