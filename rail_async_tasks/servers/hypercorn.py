"""hypercorn: streams end before it closes its listeners, and SIGTERM does not kill its workers.

It gives connections `--graceful-timeout` (3 s), cuts off those that are left, a WebSocket with code
1011, which clients take for an error, and sends lifespan's shutdown after that.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import signal
import sys
import threading
from typing import Any

from rail_async_tasks.hosting import server
from rail_async_tasks.hosting.exit import exit_in_time
from rail_async_tasks.servers import ending


def watch() -> None:
    """Hooks into hypercorn's asyncio workers, if this process has imported them."""
    module = sys.modules.get("hypercorn.asyncio.worker_context")
    if module is None:
        return
    context_class = module.WorkerContext
    original = context_class.__init__
    if hasattr(original, "rail_async_tasks"):
        return

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        try:
            _drain_before_it_ends(self)
        except AttributeError:
            ending.unknown(f"{context_class.__module__}.{context_class.__qualname__}")

    init.rail_async_tasks = True  # type: ignore[attr-defined]
    context_class.__init__ = init


def _drain_before_it_ends(context: Any) -> None:
    """Drains when hypercorn sets `terminated`: a worker ends, and nothing is closed yet."""
    end, terminate = context.terminated.set, context.terminate.set

    async def drain_first() -> None:
        if server.lives_here():
            if _in_worker_process():
                exit_in_time()
            if server.is_announced():
                server.begin_drain()  # lifespan's shutdown waits for it
                await server.end_streams()
            else:
                await server.drain()
        await end()

    context.terminated.set = drain_first
    if _in_worker_process() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        _end_at_sigterm(terminate)


def _in_worker_process() -> bool:
    return (
        multiprocessing.parent_process() is not None
        and threading.current_thread() is threading.main_thread()
    )


def _end_at_sigterm(terminate: Any) -> None:
    """Makes SIGTERM end a worker in good order, once.

    hypercorn sends it to all workers as soon as the first of them has ended, and systemd to every
    process of a service. A worker has no handler for it.
    """
    loop = asyncio.get_running_loop()

    def handle(*_: object) -> None:
        if not loop.is_closed():
            asyncio.run_coroutine_threadsafe(terminate(), loop)

    signal.signal(signal.SIGTERM, handle)
