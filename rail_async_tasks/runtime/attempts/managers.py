"""Enters managers of `around_task` and leaves them: in a task, or in a thread."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgiref.sync import _restore_context

from rail_async_tasks.hooks import contained
from rail_async_tasks.runtime.attempts.orm_threads import Seat
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")

Body = Callable[[], Any]
AsyncBody = Callable[[], Awaitable[Any]]


def within(manager: Any, who: object, body: Body) -> Any:
    """Runs a body within a plain manager. What the body raises is raised, come what may.

    Args:
        who: names the task in the log.
    """
    entered: AbstractContextManager[Any, bool] = manager
    raised: BaseException | None = None
    try:
        with entered:
            try:
                return body()
            except BaseException as error:
                raised = error
                raise
        assert raised is not None, "the manager has swallowed it"
        _warn(who, raised)
        raise raised
    finally:
        raised = None  # or the error and this frame would keep each other


async def awithin(manager: Any, who: object, body: AsyncBody) -> Any:
    """`within()` for an async manager, in the current task."""
    entered: AbstractAsyncContextManager[Any, bool] = manager
    raised: BaseException | None = None
    try:
        async with entered:
            try:
                return await body()
            except BaseException as error:
                raised = error
                raise
        assert raised is not None, "the manager has swallowed it"
        _warn(who, raised)
        raise raised
    finally:
        raised = None


def _warn(who: object, error: BaseException) -> None:
    logger.warning(
        "%s: the manager of around_task swallowed %s, which the attempt ends with all the same."
        " Raise it again there; to replace it, raise another error from it.",
        who, type(error).__name__,
    )  # fmt: skip


def at_home(call: Body) -> Any:
    """Calls; Django's language and time zone are as in the context, also in another thread."""
    # asgiref keeps them for the thread that has set them, unless it moves a call by itself.
    _restore_context(contextvars.copy_context())
    return call()


@dataclass(frozen=True, slots=True)
class AsyncOnly:
    """A manager that was made in a thread and has to be entered on the loop."""

    manager: Any


class InThread:
    """A plain manager as an async one: entered and left in the thread of the body's ORM calls.

    Both in one context, so that it can reset the variables that it has set.

    Args:
        enter: called in the thread; returns a manager that it has entered, or an `AsyncOnly`.
    """

    def __init__(self, enter: Callable[[], Any], seat: Seat) -> None:
        self._enter = enter
        self._seat = seat
        self._context = contextvars.copy_context()
        self._plain: Any = None
        self._async: Wary | None = None

    async def __aenter__(self) -> None:
        with self._seat.wary():
            manager, cancelled = await self._call(self._enter)
        _restore_context(self._context)
        if isinstance(manager, AsyncOnly):
            if cancelled is not None:
                raise cancelled
            self._async = Wary(manager.manager, self._seat)
            await self._async.__aenter__()
            return
        self._plain = manager
        if cancelled is not None:  # while the thread was entering it
            await self.__aexit__(type(cancelled), cancelled, cancelled.__traceback__)
            raise cancelled

    async def __aexit__(self, *raised: object) -> Any:
        if self._async is not None:
            return await self._async.__aexit__(*raised)
        # The body is over: a cancel that comes now changes nothing.
        swallows, _ = await self._call(partial(self._plain.__exit__, *raised))
        return swallows

    async def _call(self, call: Body) -> tuple[Any, asyncio.CancelledError | None]:
        """Calls in the thread, and waits for it: nothing ends a thread.

        Returns the result, and the cancel of this task that came meanwhile.
        """
        cancelled = None
        run = partial(self._context.run, contained(partial(at_home, call)))
        future = asyncio.wrap_future(self._seat.submit(run))
        while not future.done():
            try:
                await asyncio.wait({future})
            except asyncio.CancelledError as error:
                cancelled = error
        return future.result(), cancelled


class Wary:
    """An async manager: what it sets on a connection as it is entered is for its body alone."""

    def __init__(self, manager: Any, seat: Seat) -> None:
        self._manager = manager
        self._seat = seat

    async def __aenter__(self) -> None:
        with self._seat.wary():
            await self._manager.__aenter__()

    async def __aexit__(self, *raised: object) -> Any:
        return await self._manager.__aexit__(*raised)


class Cancellable:
    """An async manager around a `def` body: the attempt may be cancelled as it is entered."""

    def __init__(
        self, manager: Any, cancellable: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._manager = manager
        self._cancellable = cancellable

    async def __aenter__(self) -> None:
        with self._cancellable():
            await self._manager.__aenter__()

    async def __aexit__(self, *raised: object) -> Any:
        return await self._manager.__aexit__(*raised)


class OnLoop:
    """A plain manager that an `async def` factory has made: it is entered where that ran."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    async def __aenter__(self) -> None:
        self._manager.__enter__()

    async def __aexit__(self, *raised: object) -> Any:
        return self._manager.__exit__(*raised)


def is_async_manager(manager: Any) -> bool:
    """Returns whether it can be entered by `async with`."""
    return hasattr(manager, "__aenter__") and hasattr(manager, "__aexit__")


def is_plain_manager(manager: Any) -> bool:
    """Returns whether it can be entered by `with`."""
    return hasattr(manager, "__enter__") and hasattr(manager, "__exit__")
