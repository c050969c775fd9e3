"""The runtime in a worker process that is ours, or a backend's author's, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.hosting.exit import exit_in_time


@asynccontextmanager
async def worker_process() -> AsyncIterator[asyncio.Event]:
    """Hosts the runtime on the running loop, for a worker whose `main` is the block.

    Yields an event that SIGTERM and Ctrl-C set. At the block's end what `adeliver` still runs gets
    `drain_seconds`, then is handed back; a process that hangs is ended two seconds later. Leave the
    block soon after the event, and take nothing more from the broker.
    """
    stopped = asyncio.Event()
    with told_by_signals(stopped):
        await server.startup()
        try:
            yield stopped
            await server.drain()
        finally:
            await server.shutdown()


@contextmanager
def told_by_signals(stopped: asyncio.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C begin the drain. Another Ctrl-C is from a person who does not wait."""
    loop = asyncio.get_running_loop()
    interrupted = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        exit_in_time()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stopped.set)
            if interrupted and number == signal.SIGINT:
                loop.call_soon_threadsafe(host.hurry)
        interrupted |= number == signal.SIGINT

    try:
        before = {it: signal.signal(it, handle) for it in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: whoever runs it there ends it
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
