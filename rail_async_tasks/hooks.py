"""Calling code that the project plugs in, so that no exception of it ends a thread or a loop.

An event loop does not survive `SystemExit`; a future takes no `StopIteration` (its
waiter would wait for ever); a stray `CancelledError` ends whatever awaits the call. From
here they come out as a `RuntimeError` that names the function. `KeyboardInterrupt` passes in the
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
    """Whether its calls are to be awaited: those of a coroutine function, or of such an object."""
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


def asks_to_end(error: BaseException) -> bool:
    """Whether the error is a person's Ctrl-C. Other threads than the main one never get that."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
    )


def as_error(error: BaseException, what: str = "Code of the project") -> Exception:
    """The error if a future and a loop can take it, else a `RuntimeError` that it has caused."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    told = RuntimeError(f"{what} raised {type(error).__name__}.")
    told.__cause__ = error
    return told


def contained(function: Callable[P, T]) -> Callable[P, T]:
    """The function, raising only what a future takes and a loop survives. For threads."""

    @wraps(function, updated=())  # an instance has attributes of its own
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            if asks_to_end(error):
                raise
            told = as_error(error, _name_of(function))
            if told is error:
                raise
            raise told from error

    return call


async def awaited(call: Callable[[], Awaitable[T]], what: str) -> T:
    """Await what `call` returns. A cancel of the current task passes; a stray one does not."""
    try:
        return await call()
    except (SystemExit, StopIteration) as error:
        raise as_error(error, what) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise as_error(error, what) from error


async def acall(
    function: Callable[..., Any], *args: Any, in_thread: Callable[..., Any] = sync_to_async
) -> Any:
    """Call a function of the project from a loop: on it if the function is async, else in a thread.

    `in_thread` makes a plain function awaitable. Plain functions may query the database and block.
    """
    if is_async(function):
        return await awaited(lambda: function(*args), _name_of(function))
    answer = await in_thread(contained(function))(*args)
    if isawaitable(answer):  # a plain function around a coroutine
        return await awaited(lambda: answer, _name_of(function))
    return answer


def call(function: Callable[..., Any], *args: Any) -> Any:
    """`acall` for a thread without a running event loop."""
    if is_async(function):
        return async_to_sync(acall)(function, *args)
    return contained(function)(*args)


def _name_of(function: Any) -> str:
    function = getattr(function, "func", function)  # of a `partial`
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}.{name}" if module else name
