"""`run_task`: one body by itself, with arguments that have been through JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import msgspec
from asgiref.sync import async_to_sync, sync_to_async

from rail_async_tasks.access import user_id_of
from rail_async_tasks.codec import encode_result
from rail_async_tasks.conf import get_settings
from rail_async_tasks.declare import BoundTask
from rail_async_tasks.ids import new_id
from rail_async_tasks.runtime.attempts.around import (
    AttemptInfo,
    Factory,
    around_coroutine,
    around_function,
    around_here,
    find_around,
)
from rail_async_tasks.runtime.attempts.context import ExecutionContext, TaskContext, TaskInfo
from rail_async_tasks.runtime.attempts.orm_threads import Seat
from rail_async_tasks.testing.connections import call_here, shared
from rail_async_tasks.testing.handles import definition_of
from rail_async_tasks.using import enqueue_options


class Reported(NamedTuple):
    """One report of progress; equal to the tuple `(percent, message)`."""

    percent: int
    message: str | None


class TaskRun:
    """A body that has returned.

    Attributes:
        result: what it has returned, as a client reads it: as JSON values.
        progress: its reports, in order.
    """

    def __init__(self, result: Any, progress: list[Reported]) -> None:
        self.result = result
        self.progress = progress

    def __repr__(self) -> str:
        return f"<TaskRun result={self.result!r} progress={self.progress!r}>"

    def __await__(self) -> Generator[Any, None, Self]:
        """Returns itself, so that a call reads the same in every kind of test."""
        yield from ()
        return self


def run_task(task: Any, user: Any = None, **arguments: Any) -> TaskRun:
    """Runs the task's body once, within `around_task`, and stores nothing.

    The body gets arguments that were encoded as for its row and decoded again, and `user` as
    `info.context.user`, by default an `AnonymousUser`. No retry follows, and no timeout is kept.
    For another queue or a tenant give `task.using(queue=…, tenant_id=…)`.

    On an event loop the loop waits, and the body runs on another; `arun_task` runs it on this one.

    Raises:
        What the body raises, `Retry` and `Fail` too, and what the manager of `around_task` raises.
        InvalidArguments: the arguments do not fit the task.
        ResultError: the result has no JSON form.
    """
    body = _Body(task, user, arguments)
    return call_here(body.run)


async def arun_task(task: Any, user: Any = None, **arguments: Any) -> TaskRun:
    """`run_task` on the running loop. Raises as it does."""
    body = _Body(task, user, arguments)
    with shared():
        return await body.arun()


class _Body:
    """One call of a task's function."""

    def __init__(self, task: Any, user: Any, arguments: dict[str, Any]) -> None:
        self._definition = definition_of(task)
        self._user = user
        self._arguments = self._definition.codec.decode(self._definition.codec.encode(arguments))
        self._progress: list[Reported] = []
        start = enqueue_options(task.keywords if isinstance(task, BoundTask) else {})
        queue = start.queue or self._definition.options.queue or get_settings().default_queue
        hidden = self._definition.options.sensitive
        shown = {name: it for name, it in self._arguments.items() if name not in hidden}
        self._attempt = AttemptInfo(
            id=new_id(), name=self._definition.name, attempt=1, queue=queue,
            owner_id=start.owner_id or user_id_of(user), tenant_id=start.tenant_id,
            arguments=MappingProxyType(shown),
        )  # fmt: skip
        self._around = find_around(get_settings())

    def run(self) -> TaskRun:
        """Calls it in this thread, which has no running loop."""
        if self._around is None:
            return self._done(self._here())
        made = around_here(self._around, self._attempt, self._here, self._there, _on_loop)
        return self._done(made)

    async def arun(self) -> TaskRun:
        """Calls it on this loop; a `def` in a thread."""
        if self._around is None:
            return self._done(await self._there())
        # In a task of its own, as an attempt is: what the manager sets does not outlive it.
        made = await asyncio.create_task(self._within(self._around))
        return self._done(made)

    async def _within(self, around: Factory) -> Any:
        if self._definition.is_coroutine:
            return await around_coroutine(around, self._attempt, self._there, _TestSeat())
        return await around_function(around, self._attempt, self._here, _in_thread, nullcontext)

    def _here(self) -> Any:
        function, leading = self._definition.function, self._leading()
        if self._definition.is_coroutine:
            return async_to_sync(function)(*leading, **self._arguments)
        return function(*leading, **self._arguments)

    async def _there(self) -> Any:
        if self._definition.is_coroutine:
            return await self._definition.function(*self._leading(), **self._arguments)
        return await _in_thread(self._here)

    def _leading(self) -> tuple[Any, ...]:
        from django.contrib.auth.models import AnonymousUser

        if not self._definition.takes_info:
            return ()
        task = TaskContext(
            id=self._attempt.id,
            name=self._attempt.name,
            attempt=self._attempt.attempt,
            queue=self._attempt.queue,
            report=self._report if self._definition.options.track_progress else None,
        )
        user = AnonymousUser() if self._user is None else self._user
        info = TaskInfo(ExecutionContext(task, user, self._attempt.tenant_id))
        return (None, info) if self._definition.takes_root else (info,)

    def _report(self, percent: int, message: str | None) -> None:
        self._progress.append(Reported(percent, message))

    def _done(self, value: Any) -> TaskRun:
        return TaskRun(msgspec.json.decode(encode_result(value)), self._progress)


# --- where a manager of `around_task` is entered, and the body runs -------------------------------


class _TestSeat(Seat):
    """The thread in which the ORM calls of a coroutine test are made."""

    def __init__(self) -> None:
        """Takes no seat in a lane: the thread and its connections are the test's."""

    @contextmanager
    def wary(self) -> Iterator[None]:
        """Lets what the manager sets on a connection be: the test has one body at a time."""
        yield

    def submit(self, function: Callable[[], Any]) -> Any:
        return asyncio.ensure_future(_in_thread(function))


async def _in_thread(call: Callable[[], Any]) -> Any:
    return await sync_to_async(call)()


def _on_loop(call: Callable[[], Awaitable[Any]]) -> Any:
    return async_to_sync(call)()
