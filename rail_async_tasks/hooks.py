"""Calls code of the project, so that no exception of it ends a thread or a loop.

An event loop does not survive `SystemExit`; a future accepts no `StopIteration` (its
waiter would wait for ever); a stray `CancelledError` ends the task that awaits the call. They
become a `RuntimeError` that names the function. `KeyboardInterrupt` passes in the
main thread, where a person sends it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import isawaitable
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async

P = ParamSpec("P")
T = TypeVar("T")


def is_async(function: Any) -> bool:
    """Returns whether calls are to be awaited: of a coroutine function or such an object."""
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


def on_event_loop() -> bool:
    """Returns whether this thread runs an event loop, which a call must not block."""
    return asyncio._get_running_loop() is not None


def asks_to_end(error: BaseException) -> bool:
    """Returns whether the error is a Ctrl-C, which only the main thread gets."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
    )


def as_error(error: BaseException, what: str = "Code of the project") -> Exception:
    """Returns the error if futures and loops accept it, else a `RuntimeError` caused by it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    replaced = RuntimeError(f"{what} raised {type(error).__name__}.")
    replaced.__cause__ = error
    return replaced


def contained(function: Callable[P, T]) -> Callable[P, T]:
    """Wraps a function for threads: it raises only what futures accept and loops survive."""

    @wraps(function, updated=())  # an instance has attributes of its own
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            if asks_to_end(error):
                raise
            raised = as_error(error, name_of(function))
            if raised is error:
                raise
            raise raised from error

    return call


async def awaited(call: Callable[[], Awaitable[T]], what: str) -> T:
    """Awaits what `call` returns. A cancel of the current task passes; a stray one does not."""
    try:
        return await call()
    except BaseException as error:
        if asks_to_end(error) or _comes_from_above(error):
            raise
        raised = as_error(error, what)
        if raised is error:
            raise
        raise raised from error


def is_cancelled() -> bool:
    """Returns whether the cancel of the current task was asked for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _comes_from_above(error: BaseException) -> bool:
    """Returns whether the task was cancelled, or its coroutine closed: `awaited` only passes it."""
    if isinstance(error, asyncio.CancelledError):
        return is_cancelled()
    # A close raises in the frame of `awaited` itself, when the frames below have ended.
    trace = error.__traceback__
    return isinstance(error, GeneratorExit) and (trace is None or trace.tb_next is None)


async def acall(
    function: Callable[..., Any], *args: Any, in_thread: Callable[..., Any] = sync_to_async
) -> Any:
    """Calls a function of the project on the loop if it is async, else in a thread.

    `in_thread` makes a plain function awaitable. Plain functions may query the database and block.
    """
    if is_async(function):
        return await awaited(lambda: function(*args), name_of(function))
    answer = await in_thread(contained(function))(*args)
    if isawaitable(answer):  # a plain function around a coroutine
        return await awaited(lambda: answer, name_of(function))
    return answer


def call(function: Callable[..., Any], *args: Any) -> Any:
    """`acall` for a thread without a running event loop."""
    if is_async(function):
        return async_to_sync(acall)(function, *args)
    return contained(function)(*args)


def name_of(function: Any) -> str:
    """Returns the function's name in messages, with its module."""
    function = getattr(function, "func", function)  # of a `partial`
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}.{name}" if module else name
