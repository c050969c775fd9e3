"""Calling code of the project: what it raises ends no thread and no loop, and hangs no caller."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from rail_async_tasks.hooks import acall, as_error, awaited, call, contained, is_async
from tests.support.waiting import TIMEOUT

# Each of these ends a loop, or leaves who awaits a future waiting, if it gets as far.
FATAL = [SystemExit, StopIteration, asyncio.CancelledError, GeneratorExit]


def plain(x: int = 0) -> int:
    assert threading.current_thread() is not threading.main_thread()
    return x + 1


async def on_the_loop(x: int = 0) -> int:
    await asyncio.sleep(0)
    return x + 1


def around(x: int = 0) -> Any:
    return on_the_loop(x)


class Plain:
    def __call__(self, x: int = 0) -> int:
        return x + 1


class Async:
    async def __call__(self, x: int = 0) -> int:
        return x + 1


@pytest.mark.parametrize(
    "function", [plain, on_the_loop, around, Plain(), Async(), partial(on_the_loop)]
)
async def test_every_form_of_a_function_is_called(function: Any) -> None:
    """One that is not async in a thread; an awaitable that it returns is awaited."""
    async with asyncio.timeout(TIMEOUT):
        assert await acall(function, 6) == 7


def test_a_thread_calls_both_forms() -> None:
    """As code without a loop does."""
    assert [call(it, 1) for it in (Plain(), on_the_loop, Async())] == [2, 2, 2]


def test_which_are_async() -> None:
    """Objects whose call is a coroutine function are, too."""
    assert [is_async(it) for it in (plain, Plain(), on_the_loop, Async())] == [
        False, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize("error", FATAL)
async def test_what_a_thread_raises_comes_back(error: type[BaseException]) -> None:
    """As an error with its cause; a `StopIteration` would be waited for without an end."""

    def fall() -> None:
        raise error

    async with asyncio.timeout(TIMEOUT):
        with pytest.raises(RuntimeError, match=rf"fall raised {error.__name__}\.") as caught:
            await acall(fall)
    assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("error", FATAL)
async def test_what_a_coroutine_raises_comes_back(
    error: type[BaseException], is_late: bool
) -> None:
    """A cancel without a request, and an end without a close, are errors of the function."""

    async def fall() -> None:
        if is_late:
            await asyncio.sleep(0)
        raise error

    with pytest.raises(RuntimeError, match=error.__name__):
        await acall(fall)


async def test_a_coroutine_that_is_closed_ends() -> None:
    """With its `finally`, and without an error in place of the close."""
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(TIMEOUT)
        finally:
            ended.append("here")

    call = awaited(lambda: awaited(wait, "inner"), "outer")
    call.send(None)
    call.close()
    assert ended == ["here"]


async def test_a_ctrl_c_in_another_threads_loop_comes_back() -> None:
    """Only the main thread gets a real one."""

    async def fall() -> None:
        raise KeyboardInterrupt

    def run() -> str:
        with pytest.raises(RuntimeError) as caught:
            asyncio.run(awaited(fall, "fall"))
        return str(caught.value)

    assert await asyncio.to_thread(run) == "fall raised KeyboardInterrupt."


async def test_ordinary_errors_pass_as_they_are() -> None:
    """From a thread and from the loop."""
    wanted = KeyError("x")

    def fall() -> None:
        raise wanted

    async def afall() -> None:
        raise wanted

    for function in (fall, afall):
        with pytest.raises(KeyError) as caught:
            await acall(function)
        assert caught.value is wanted


async def test_a_cancel_of_the_caller_passes() -> None:
    """The client has gone and waits for no answer."""
    entered = asyncio.Event()

    async def wait() -> None:
        entered.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(awaited(wait, "wait"))
    await entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_a_ctrl_c_passes() -> None:
    """In the main thread, where a person sends it."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contained(interrupted)()


def test_an_error_for_a_future() -> None:
    """Futures refuse `StopIteration`, so it is another error's cause."""
    error = ValueError()
    assert as_error(error) is error
    raised = as_error(StopIteration(), "The hook")
    assert str(raised) == "The hook raised StopIteration."
