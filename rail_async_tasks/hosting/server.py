"""The runtime under a server: it starts with the server, and drains when the server ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Final

from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import TablesMissing
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.exit import chain_signals, exit_in_time
from rail_async_tasks.hosting.no_runtime import is_forbidden
from rail_async_tasks.hosting.tables import log_found, log_missing
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")

# In seconds.
LOOK_FOR_TABLES_EVERY: Final = 2.0


class _Server:
    """The server of this process, as far as it is known."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.announced = True
        self.going_away = False
        self.drains: set[asyncio.Future[None]] = set()
        self.waiting: asyncio.Task[None] | None = None  # for tables that are missing


_server = _Server()

# How edges end their streams. Modules register these; a fork keeps them.
_closers: Final[list[Callable[[], Coroutine[Any, Any, None]]]] = []


def reset() -> None:
    """Forget the server: a forked child has none yet."""
    global _server
    _server = _Server()


after_fork(reset)


async def startup(*, announced: bool = True, waits: bool = True) -> None:
    """Start the runtime with the server, before the first request.

    Args:
        announced: whether the server will announce its end too, and wait for `shutdown()` then.
        waits: where the database lacks tables, log that and start once it has them. A worker,
            which has nothing else to do, raises `TablesMissing` instead.
    """
    server = _server
    settings = get_settings()
    loop = server.loop = asyncio.get_running_loop()
    server.going_away, server.announced = False, announced
    if settings.enabled and settings.backend != "sync" and not is_forbidden():
        try:
            await _start_runtime(announced=announced)
        except TablesMissing as error:
            if not waits:
                server.loop = None
                raise
            log_missing(error)
            server.waiting = loop.create_task(
                _start_with_tables(server, announced=announced), context=contextvars.Context()
            )
        except BaseException:
            server.loop = None  # the next request tries again, and logs what the server lacks
            raise


async def _start_runtime(*, announced: bool) -> None:
    in_thread = get_settings().backend == "thread"
    runtime = await process.aruntime(in_thread=in_thread)
    runtime.state.under_server = announced and runtime.loop is asyncio.get_running_loop()


async def _start_with_tables(server: _Server, *, announced: bool) -> None:
    """Starts the runtime once `manage.py migrate` has run; the server answers meanwhile."""
    while not server.going_away:
        await asyncio.sleep(LOOK_FOR_TABLES_EVERY)
        try:
            await _start_runtime(announced=announced)
        except TablesMissing as error:
            log_missing(error)
        except Exception:
            logger.exception("The task runtime could not start. Its next use tries again.")
            return
        else:
            log_found()
            return


def waits_for_tables() -> bool:
    """Returns whether no task runs here because `manage.py migrate` has not run yet."""
    return _server.waiting is not None and not _server.waiting.done()


def is_served() -> bool:
    """Returns whether the running loop is that of the server which has started the runtime."""
    return _server.loop is asyncio.get_running_loop()


def is_announced() -> bool:
    """Returns whether the server announces its start and end, as ASGI's lifespan does."""
    return _server.announced


def is_going_away() -> bool:
    """Returns whether the server ends: a stream that ends now has not ended for its client."""
    return _server.going_away


def lives_here() -> bool:
    """Returns whether the end of the running loop's server ends the runtime, or its streams."""
    runtime = process.current()
    return is_served() or (runtime is not None and runtime.loop is asyncio.get_running_loop())


def serving_loop() -> asyncio.AbstractEventLoop | None:
    """Returns the loop of the server which has started the runtime, if there is one."""
    return _server.loop


# --- its end -------------------------------------------------------------------------------------


def on_drain(close_streams: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have an edge end its streams, in the server's loop, before anything else is ended.

    It must do so in a way that makes clients come back: their tasks go on elsewhere.
    """
    _closers.append(close_streams)


async def end_streams() -> None:
    """End the streams of this process. Their clients come back, to another process."""
    _server.going_away = True
    for close_streams in _closers:
        try:
            await close_streams()
        except Exception:
            logger.exception("Streams could not be ended")


async def drain() -> None:
    """End the streams, then give running tasks `drain_seconds`."""
    await end_streams()
    runtime, bus = process.current(), process.bus_if_any()
    if runtime is not None:
        await process.across(runtime, runtime.drain())
    elif bus is not None:
        bus.close_mailboxes()  # of watchers whose tasks run elsewhere


def begin_drain() -> None:
    """Begin to drain, unless that has begun. On the server's loop."""
    server = _server
    if server.going_away:
        return
    drains = asyncio.ensure_future(drain())
    server.drains.add(drains)
    drains.add_done_callback(server.drains.discard)


async def shutdown() -> None:
    """Drain and stop the runtime: what has not ended in `drain_seconds` is handed back."""
    if _server.waiting is not None:
        _server.waiting.cancel()
    await drain()
    await process.astop()


def drain_on_signal() -> None:
    """Begin to drain at the signal, not when the server has closed its connections.

    The server waits for its connections, and a stream ends only with the drain. The server's own
    handler runs next. Called on the server's loop.
    """
    loop = asyncio.get_running_loop()

    def react(again: bool, go_on: Callable[[], object]) -> None:
        exit_in_time()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(process.hurry if again else begin_drain)
        go_on()

    chain_signals(react)
