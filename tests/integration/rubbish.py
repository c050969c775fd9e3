"""Bodies that leave something behind: in their task, on the loop, in their thread.

`DEADLINE` is when timers among it fire, in seconds. `kept` holds what a body keeps a reference to.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import anyio

DEADLINE = 0.03

kept: list[Any] = []
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")


class Rubbish(Exception):
    """What callbacks and children that outlive their body raise."""


def own_task() -> asyncio.Task[Any]:
    running = asyncio.current_task()
    assert running is not None
    return running


def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def _raise() -> None:
    raise Rubbish


async def _raise_soon() -> None:
    await asyncio.sleep(DEADLINE / 2)
    raise Rubbish


async def _stream(scope: Callable[[], Any]) -> AsyncGenerator[int, None]:
    with scope():
        for number in range(3):
            yield number


async def _stream_with_timeout() -> AsyncGenerator[int, None]:
    async with asyncio.timeout(DEADLINE):
        for number in range(3):
            yield number


async def _stream_that_goes_on() -> AsyncGenerator[int, None]:
    while True:
        try:
            yield 1
        except GeneratorExit:
            yield 2
            raise


async def a_stream_with_fail_after() -> int | None:
    async for number in _stream(lambda: anyio.fail_after(DEADLINE)):
        return number
    return None


async def a_stream_with_fail_after_that_is_kept() -> int | None:
    stream = _stream(lambda: anyio.fail_after(DEADLINE))
    kept.append(stream)
    async for number in stream:
        return number
    return None


async def a_stream_with_a_timeout_that_is_kept() -> int | None:
    stream = _stream_with_timeout()
    kept.append(stream)
    async for number in stream:
        return number
    return None


async def a_stream_that_ignores_its_close() -> int | None:
    async for number in _stream_that_goes_on():
        return number
    return None


async def a_cancel_scope() -> None:
    scope = anyio.CancelScope(deadline=anyio.current_time() + DEADLINE)
    scope.__enter__()
    kept.append(scope)


async def a_cancelled_scope() -> None:
    scope = anyio.CancelScope()
    scope.__enter__()
    scope.cancel()


async def a_timeout() -> None:
    scope = asyncio.timeout(DEADLINE)
    await scope.__aenter__()
    kept.append(scope)


async def an_anyio_group_whose_child_fails() -> None:
    group = anyio.create_task_group()
    await group.__aenter__()
    group.start_soon(_raise_soon)
    kept.append(group)


async def an_asyncio_group_whose_child_fails() -> None:
    group = asyncio.TaskGroup()
    await group.__aenter__()
    group.create_task(_raise_soon())
    kept.append(group)


async def a_timer_that_cancels_its_task() -> None:
    loop().call_later(DEADLINE, own_task().cancel)


async def a_timer_that_raises() -> None:
    loop().call_later(DEADLINE, _raise)


async def a_done_callback_that_raises() -> None:
    own_task().add_done_callback(lambda done: _raise())


async def a_child_that_fails() -> None:
    kept.append(asyncio.create_task(_raise_soon()))


async def a_child_that_cancels_it() -> None:
    parent = own_task()

    async def cancel() -> None:
        await asyncio.sleep(DEADLINE)
        parent.cancel()

    kept.append(asyncio.create_task(cancel()))


async def a_cancel_of_itself() -> None:
    own_task().cancel()


async def an_exception_handler() -> None:
    loop().set_exception_handler(lambda loop, context: _raise())
    loop().call_soon(_raise)


async def no_default_executor() -> None:
    await asyncio.to_thread(int)
    await loop().shutdown_default_executor()


async def a_context_variable() -> None:
    variable.set("rubbish")


ASYNC: list[Callable[[], Awaitable[Any]]] = [
    a_stream_with_fail_after,
    a_stream_with_fail_after_that_is_kept,
    a_stream_with_a_timeout_that_is_kept,
    a_stream_that_ignores_its_close,
    a_cancel_scope,
    a_cancelled_scope,
    a_timeout,
    an_anyio_group_whose_child_fails,
    an_asyncio_group_whose_child_fails,
    a_timer_that_cancels_its_task,
    a_timer_that_raises,
    a_done_callback_that_raises,
    a_child_that_fails,
    a_child_that_cancels_it,
    a_cancel_of_itself,
    an_exception_handler,
    no_default_executor,
    a_context_variable,
]


async def clear_away() -> None:
    """Drops what was kept, and closes what can be closed in another task."""
    for it in kept:
        if isinstance(it, AsyncGenerator):
            with contextlib.suppress(RuntimeError):
                await it.aclose()
        if isinstance(it, asyncio.Task):
            await asyncio.wait([it])
            it.exception() if not it.cancelled() else None
    kept.clear()
