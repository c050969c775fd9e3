"""Where the runtime of this process lives: in the server's loop, or in a loop thread of its own.

There is one runtime, one ledger and one bus per process; this module holds them. A forked child
starts with none: threads do not survive a fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync
from django.core.signals import setting_changed

from rail_async_tasks.bus.memory import MemoryBus
from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import SETTING, get_settings
from rail_async_tasks.definition import registry
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hosting.exit import chain_signals, reloading, when_process_ends
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.runtime.admission import Admission
from rail_async_tasks.runtime.attempts.threads import LoopThread
from rail_async_tasks.runtime.claims.broker import broker_for
from rail_async_tasks.runtime.runtime import Runtime
from rail_async_tasks.safe_logging import get_logger, shut_down
from rail_async_tasks.vital import is_vital, make_vital, refuse_if_vital

logger = get_logger("rail_async_tasks.runtime")

T = TypeVar("T")


class _Process:
    """What this process has, made when it is first asked for."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.ledger: Ledger | None = None
        self.bus: Bus | None = None
        self.admission: Admission | None = None
        self.runtime: Runtime | None = None
        self.thread: LoopThread | None = None


_process = _Process()


def _start_afresh() -> None:
    global _process, _server_loop, _going_away, _exit_timer
    _process = _Process()
    _server_loop, _going_away, _exit_timer = None, False, None


after_fork(_start_afresh)


def ledger() -> Ledger:
    """This process's ledger."""
    process = _process
    if process.ledger is not None:  # without the lock, which a thread that starts a runtime holds
        return process.ledger
    with process.lock:
        if process.ledger is None:
            process.ledger = _make_ledger()
        return process.ledger


def admission() -> Admission:
    """What this process knows of how many wait."""
    process = _process
    if process.admission is not None:
        return process.admission
    with process.lock:
        if process.admission is None:
            process.admission = Admission(ledger())
        return process.admission


def _make_ledger() -> Ledger:
    settings = get_settings()
    if not settings.track_in_database:
        return MemoryLedger()
    from rail_async_tasks.ledger.orm.ledger import (
        OrmLedger,  # models exist only once the apps are loaded
    )

    return OrmLedger(options=LedgerOptions.of(settings))


def bus() -> Bus:
    """This process's bus."""
    process = _process
    if process.bus is not None:
        return process.bus
    with process.lock:
        if process.bus is None:
            process.bus = _make_bus()
        return process.bus


def _make_bus() -> Bus:
    settings = get_settings()
    if settings.bus == "memory" or settings.redis_url is None:
        return MemoryBus()
    from rail_async_tasks.bus.redis import RedisBus  # needs redis-py

    return RedisBus(settings.redis_url, settings.subscription_channel)


def current() -> Runtime | None:
    """The runtime that is alive in this process, if any."""
    runtime = _process.runtime
    return runtime if runtime is not None and runtime.alive else None


def hosted() -> Runtime | None:
    """The runtime that was started here and not yet stopped, alive or not."""
    return _process.runtime


def is_short_lived(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop lasts for one `async_to_sync` call only, as in WSGI: no place to live."""
    return loop in AsyncToSync.loop_thread_executors


async def aruntime(*, in_thread: bool = False) -> Runtime:
    """The runtime; if there is none it starts in the running loop, or in a thread of its own.

    Raises what keeps it from starting. The next call tries again.
    """
    runtime = current()
    if runtime is None:
        loop = asyncio.get_running_loop()
        if in_thread or is_short_lived(loop):
            return runtime_in_thread()
        process = _process
        failure: BaseException | None = None
        with process.lock:
            runtime = current()
            if runtime is None:
                settings = get_settings()
                runtime = process.runtime = Runtime(
                    settings, registry, ledger(), bus(), admission=admission(),
                    broker=broker_for(settings),
                )  # fmt: skip
                try:
                    runtime.start()
                except BaseException as error:
                    failure = error
        if failure is not None:  # told when the next call can try again
            await runtime.closed()
            raise failure
    if runtime.loop is asyncio.get_running_loop():
        await runtime.ready()
    return runtime


def runtime_in_thread() -> Runtime:
    """The runtime; if there is none it starts in a loop thread. For code that is not async.

    Raises what keeps it from starting. The next call tries again.
    """
    refuse_if_vital("enqueue()")
    runtime = current()
    if runtime is not None:
        return runtime
    process = _process
    with process.lock:
        runtime = current()
        if runtime is None:
            # Ledger and bus are made here: this thread has the lock, and waits for that one.
            parts = ledger(), bus(), admission()
            if process.thread is not None:  # of a runtime that an error has ended
                process.thread.close()
            process.thread = LoopThread()
            try:
                runtime = process.thread.call(_start_here(process, *parts))
            except BaseException:
                thread, process.thread, process.runtime = process.thread, None, None
                thread.close()
                raise
        return runtime


async def _start_here(process: _Process, ledger: Ledger, bus: Bus, admission: Admission) -> Runtime:
    settings = get_settings()
    # Under the `thread` backend `max_workers` is what runs at once, of either kind.
    concurrency = settings.max_workers if settings.backend == "thread" else None
    runtime = Runtime(
        settings, registry, ledger, bus, concurrency=concurrency, admission=admission,
        broker=broker_for(settings),
    )  # fmt: skip
    # Known at once: what hooks call on this loop must not wait for the lock of the waiting thread.
    process.runtime = runtime
    try:
        runtime.start()
        await runtime.ready()
    except BaseException:
        await runtime.closed()
        raise
    return runtime


async def across(runtime: Runtime, coroutine: Coroutine[Any, Any, T]) -> T:
    """Awaits on the runtime's loop, from whatever loop this is. Cancelling does not reach it."""
    if runtime.loop is asyncio.get_running_loop():
        return await coroutine
    future = asyncio.run_coroutine_threadsafe(coroutine, runtime.loop)
    return await asyncio.shield(asyncio.wrap_future(future))


def from_thread(runtime: Runtime, coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs on the runtime's loop and waits, in a thread that has no running loop."""
    if is_vital():
        coroutine.close()
        refuse_if_vital("A call that waits for the task runtime")
    return asyncio.run_coroutine_threadsafe(coroutine, runtime.loop).result()


def call_soon(runtime: Runtime, callback: Callable[[], None]) -> None:
    """Calls on the runtime's loop, from any thread; a runtime that is gone does not mind."""
    with contextlib.suppress(RuntimeError):
        runtime.loop.call_soon_threadsafe(callback)


async def astop() -> None:
    """Drains and ends this process's runtime; the next use starts another."""
    process = _process
    runtime, thread = process.runtime, process.thread
    process.runtime = process.thread = None
    if runtime is not None and runtime.alive:
        await across(runtime, runtime.stop())
    if thread is not None:
        thread.close()


def stop() -> None:
    """`astop()` for code that is not async; for a runtime in a loop thread."""
    process = _process
    runtime, thread = process.runtime, process.thread
    if thread is None:
        return
    process.runtime = process.thread = None
    if runtime is not None and runtime.alive:
        from_thread(runtime, runtime.stop())
    thread.close()


# --- under a server ------------------------------------------------------------------------------


async def startup(*, announced: bool = True) -> None:
    """The server has started: the runtime starts with it, before the first request.

    Args:
        announced: whether the server will announce its end too, and wait for `shutdown()` then.
    """
    global _going_away, _server_loop, _announced
    settings = get_settings()
    _going_away, _server_loop, _announced = False, asyncio.get_running_loop(), announced
    if settings.enabled and settings.backend != "sync":
        try:
            runtime = await aruntime(in_thread=settings.backend == "thread")
        except BaseException:
            _server_loop = None  # the next request tries again, and says what the server lacks
            raise
        runtime.state.under_server = announced and runtime.loop is _server_loop


def is_served() -> bool:
    """Whether the running loop is that of the server which has started the runtime."""
    return _server_loop is asyncio.get_running_loop()


def is_announced() -> bool:
    """Whether the server announces its start and its end, as ASGI's lifespan does."""
    return _announced


def lives_here() -> bool:
    """Whether the end of the running loop's server ends the runtime, or its streams, too."""
    runtime = current()
    return is_served() or (runtime is not None and runtime.loop is asyncio.get_running_loop())


async def drain() -> None:
    """The server is told to stop: streams end, running tasks get `drain_seconds`."""
    await end_streams()
    runtime, bus = current(), _process.bus
    if runtime is not None:
        await across(runtime, runtime.drain())
    elif bus is not None:
        bus.close_mailboxes()  # of those who watch what runs elsewhere


def hurry() -> None:
    """Does not wait for running tasks any longer: they are handed back."""
    runtime = current()
    if runtime is not None:
        call_soon(runtime, runtime.hurry)


async def shutdown() -> None:
    """The server is stopping: what has not ended in `drain_seconds` is handed back."""
    await drain()
    await astop()


_going_away = False
_server_loop: asyncio.AbstractEventLoop | None = None
_announced = True
_closers: list[Callable[[], Coroutine[Any, Any, None]]] = []


def on_drain(close_streams: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Has an edge end its streams, in the server's loop, before anything else is ended.

    It must do so in a way that makes clients come back: their tasks go on elsewhere.
    """
    _closers.append(close_streams)


def is_going_away() -> bool:
    """Whether the server has been told to stop: what ends now has not ended for its client."""
    return _going_away


async def end_streams() -> None:
    """Ends the streams of this process. Their clients are to come back, to another one."""
    global _going_away
    _going_away = True
    for close_streams in _closers:
        try:
            await close_streams()
        except Exception:
            logger.exception("Streams could not be ended")


def drain_on_signal() -> None:
    """Begins to drain when the server is told to stop, not when it has closed its connections.

    It waits for those, and a stream ends only with the drain. The server's own handler runs next.
    Called on the server's loop.
    """
    loop = asyncio.get_running_loop()

    def react(again: bool, go_on: Callable[[], object]) -> None:
        exit_in_time()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(hurry if again else begin_drain)
        go_on()

    chain_signals(react)


# What the process gets beyond `drain_seconds` to end by itself, in seconds.
EXIT_PATIENCE = 1.9
# What log handlers get to write what is left, in seconds.
LOG_TIMEOUT = 1.0
_exit_timer: threading.Timer | None = None


def exit_in_time() -> bool:
    """Ends this process a little after the drain, should anything still hold it up then.

    By then every outcome is stored, or its row is for others to recover. From any thread. Returns
    whether this is the first call.
    """
    global _exit_timer
    if _exit_timer is not None:
        return False
    _exit_timer = threading.Timer(get_settings().drain_seconds + EXIT_PATIENCE, _exit_now)
    _exit_timer.daemon = True
    _exit_timer.start()
    return True


def call_off_exit() -> None:
    """Lets this process live on: what has ended was a server in it, in good order."""
    global _exit_timer
    if _exit_timer is not None:
        _exit_timer.cancel()
        _exit_timer = None


def _exit_now() -> None:
    make_vital()  # a log handler that blocks must not keep the process alive
    logger.critical("The process has not ended in time after its drain; it is ended now")
    shut_down(LOG_TIMEOUT)
    os._exit(1)


_drains: set[asyncio.Future[None]] = set()


def begin_drain() -> None:
    """Begins to drain, unless that has begun. On the server's loop."""
    if _going_away:
        return
    drains = asyncio.ensure_future(drain())
    _drains.add(drains)
    drains.add_done_callback(_drains.discard)


# --- at the end of the process -------------------------------------------------------------------

# What running tasks get (seconds) when the development server reloads: whoever saved a file waits.
RELOAD_PATIENCE = 2.0


def _end_with_process() -> None:
    """Drains what lives in another thread's loop: the runtime, or a server with it."""
    runtime = current()
    if runtime is None:
        return
    if not runtime.loop.is_running():
        _drain_stopped_loop(runtime)
        return
    if _server_loop is not None and _server_loop.is_running():
        stopping = asyncio.run_coroutine_threadsafe(shutdown(), _server_loop)
    else:
        stopping = asyncio.run_coroutine_threadsafe(_finish(runtime), runtime.loop)
    try:
        if not reloading():
            stopping.result()
            return
    except KeyboardInterrupt:  # whoever waits has waited enough
        pass
    hurry()
    with contextlib.suppress(TimeoutError):
        stopping.result(RELOAD_PATIENCE)


def _drain_stopped_loop(runtime: Runtime) -> None:
    """Runs a loop once more that was stopped and left open, as some servers and scripts do."""
    if runtime.loop is _server_loop:
        ending = shutdown()
    else:
        runtime.hurry()  # as `asyncio.run` does at the end of a script
        ending = runtime.stop()
    try:
        runtime.loop.run_until_complete(ending)
    except Exception:
        logger.exception("The task runtime did not shut down cleanly.")


async def _finish(runtime: Runtime) -> None:
    """What was enqueued a moment ago begins before nothing may begin any more."""
    if not reloading():
        await runtime.caught_up()
    await runtime.stop()


when_process_ends(_end_with_process)


def _forget(*, setting: str, **_: Any) -> None:
    """Another ledger or bus may be wanted now; one that a runtime uses stays until it stops."""
    if setting in {SETTING, "DATABASES"} and current() is None:
        process = _process
        process.ledger = process.bus = process.admission = None


setting_changed.connect(_forget, dispatch_uid="rail_async_tasks.host")
