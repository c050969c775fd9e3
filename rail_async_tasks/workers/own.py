"""Hosts the runtime in a worker process of ours, or of a backend's author."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

from rail_async_tasks.hosting import process, server
from rail_async_tasks.hosting.exit import exit_in_time
from rail_async_tasks.roles import become_worker


@asynccontextmanager
async def worker_process() -> AsyncIterator[asyncio.Event]:
    """Host the runtime on the running loop, for a worker whose `main` is the block.

    Yields an event that SIGTERM and Ctrl-C set. Leave the block soon after the event, and take
    nothing more from the broker. At the block's end running deliveries get `drain_seconds`, then
    are handed back; a process that hangs is ended two seconds later.
    """
    become_worker()
    stopped = asyncio.Event()
    with stopped_by_signals(stopped):
        await server.startup(waits=False)
        try:
            yield stopped
            await server.drain()
        finally:
            await server.shutdown()


@contextmanager
def stopped_by_signals(stopped: asyncio.Event) -> Iterator[None]:
    """Set the event at SIGTERM and Ctrl-C. Another Ctrl-C hands running tasks back at once."""
    loop = asyncio.get_running_loop()
    interrupted = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        exit_in_time()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stopped.set)
            if interrupted and number == signal.SIGINT:
                loop.call_soon_threadsafe(process.hurry)
        interrupted |= number == signal.SIGINT

    try:
        before = {it: signal.signal(it, handle) for it in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: its caller ends it
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
