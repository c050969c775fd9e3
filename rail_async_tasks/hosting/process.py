"""The one ledger, bus and runtime of this process: made at first use, and handed to each other.

The runtime lives in the loop that first needs it, or in a loop thread of its own. A forked child
starts with none: threads do not survive a fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import AsyncToSync
from django.core.signals import setting_changed

from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import SETTING, get_settings
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hosting.making import make_bus, make_ledger, make_runtime
from rail_async_tasks.hosting.no_runtime import refuse_start
from rail_async_tasks.hosting.tables import acheck_tables
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.runtime.admission import Admission
from rail_async_tasks.runtime.attempts.threads import LoopThread
from rail_async_tasks.vital import is_vital, refuse_if_vital

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime
    from rail_async_tasks.runtime.timings import RuntimeTimings

T = TypeVar("T")


class _Process:
    """The services of this process, each made when it is first asked for."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.ledger: Ledger | None = None
        self.bus: Bus | None = None
        self.admission: Admission | None = None
        self.runtime: Runtime | None = None
        self.thread: LoopThread | None = None


_process = _Process()
_timings: RuntimeTimings | None = None


def use_timings(timings: RuntimeTimings | None) -> None:
    """Has runtimes that start later in this process use these timings; None: the usual ones.

    For tests.
    """
    global _timings
    _timings = timings


def _reset() -> None:
    global _process
    if _process.ledger is not None:
        # The connections of our threads are garbage here. Freeing one of SQLite takes a lock that
        # a thread may have held at the fork, and waits for ever; so none of the parent's is freed.
        gc.freeze()
    _process = _Process()


after_fork(_reset)


@contextlib.contextmanager
def other_services() -> Iterator[None]:
    """Gives this process other services while the block runs, made anew. For tests."""
    global _process
    before, _process = _process, _Process()
    try:
        yield
    finally:
        _process = before


# --- ledger, bus, admission ----------------------------------------------------------------------


def ledger() -> Ledger:
    """Returns this process's ledger."""
    process = _process
    if process.ledger is not None:  # without the lock, which a thread that starts a runtime holds
        return process.ledger
    with process.lock:
        if process.ledger is None:
            process.ledger = make_ledger()
        return process.ledger


def admission() -> Admission:
    """Returns this process's counts of waiting executions."""
    process = _process
    if process.admission is not None:
        return process.admission
    with process.lock:
        if process.admission is None:
            process.admission = Admission(ledger())
        return process.admission


def bus() -> Bus:
    """Returns this process's bus."""
    process = _process
    if process.bus is not None:
        return process.bus
    with process.lock:
        if process.bus is None:
            process.bus = make_bus()
        return process.bus


def bus_if_any() -> Bus | None:
    """Returns this process's bus if anything has asked for it yet."""
    return _process.bus


def _forget(*, setting: str, **_: Any) -> None:
    """Drop ledger and bus when their settings change; a runtime keeps its own until it stops."""
    if setting in {SETTING, "DATABASES"} and current() is None:
        process = _process
        process.ledger = process.bus = process.admission = None


setting_changed.connect(_forget, dispatch_uid="rail_async_tasks.host")


# --- the runtime ---------------------------------------------------------------------------------


def current() -> Runtime | None:
    """Returns the runtime that is alive in this process, if any."""
    runtime = _process.runtime
    return runtime if runtime is not None and runtime.alive else None


def hosted() -> Runtime | None:
    """Returns the runtime that was started here and not yet stopped, alive or not."""
    return _process.runtime


def is_short_lived(loop: asyncio.AbstractEventLoop) -> bool:
    """Returns whether the loop lasts for one `async_to_sync` call only, as under WSGI."""
    return loop in AsyncToSync.loop_thread_executors


async def aruntime(*, in_thread: bool = False) -> Runtime:
    """Returns the runtime; if there is none, starts one in the running loop or in a thread.

    Raises the error that keeps the runtime from starting. The next call tries again.
    """
    runtime = current()
    if runtime is None:
        refuse_start()
        await acheck_tables(ledger())
        loop = asyncio.get_running_loop()
        if in_thread or is_short_lived(loop):
            return runtime_in_thread()
        process = _process
        failure: BaseException | None = None
        with process.lock:
            runtime = current()
            if runtime is None:
                settings = get_settings()
                runtime = process.runtime = make_runtime(
                    settings, ledger(), bus(), admission=admission(), timings=_timings
                )
                try:
                    runtime.start()
                except BaseException as error:
                    failure = error
        if failure is not None:  # raised without the lock, so that the next call can try again
            await runtime.closed()
            raise failure
    if runtime.loop is asyncio.get_running_loop():
        await runtime.ready()
    return runtime


def runtime_in_thread() -> Runtime:
    """Returns the runtime; if there is none, starts one in a loop thread. For code without a loop.

    Raises the error that keeps the runtime from starting. The next call tries again.
    """
    refuse_if_vital("enqueue()")
    runtime = current()
    if runtime is not None:
        return runtime
    refuse_start()
    if asyncio._get_running_loop() is None:  # `aruntime` has looked
        ledger().check_tables()
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
    # Under the `thread` backend `max_workers` limits bodies of either kind together.
    concurrency = settings.max_workers if settings.backend == "thread" else None
    runtime = make_runtime(
        settings, ledger, bus, concurrency=concurrency, admission=admission, timings=_timings
    )
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
    """Await on the runtime's loop, from any loop. A cancel of the caller does not reach it."""
    if runtime.loop is asyncio.get_running_loop():
        return await coroutine
    future = asyncio.run_coroutine_threadsafe(coroutine, runtime.loop)
    return await asyncio.shield(asyncio.wrap_future(future))


def from_thread(runtime: Runtime, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on the runtime's loop and wait, in a thread that has no running loop."""
    if is_vital():
        coroutine.close()
        refuse_if_vital("A call that waits for the task runtime")
    return asyncio.run_coroutine_threadsafe(coroutine, runtime.loop).result()


def call_soon(runtime: Runtime, callback: Callable[[], None]) -> None:
    """Call on the runtime's loop, from any thread; does nothing once that loop is closed."""
    with contextlib.suppress(RuntimeError):
        runtime.loop.call_soon_threadsafe(callback)


def hurry() -> None:
    """Hand running tasks back instead of waiting for them any longer. From any thread."""
    runtime = current()
    if runtime is not None:
        call_soon(runtime, runtime.hurry)


async def astop() -> None:
    """Drain and end this process's runtime; the next use starts another."""
    process = _process
    runtime, thread = process.runtime, process.thread
    process.runtime = process.thread = None
    if runtime is not None and runtime.alive:
        await across(runtime, runtime.stop())
    if thread is not None:
        thread.close()


def stop() -> None:
    """`astop()` for code that is not async; ends a runtime in a loop thread only."""
    process = _process
    runtime, thread = process.runtime, process.thread
    if thread is None:
        return
    process.runtime = process.thread = None
    if runtime is not None and runtime.alive:
        from_thread(runtime, runtime.stop())
    thread.close()
