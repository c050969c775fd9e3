"""`run_task`: one body by itself, with arguments that have been through JSON."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Self

import msgspec
from asgiref.sync import async_to_sync, sync_to_async

from rail_async_tasks.codec import encode_result
from rail_async_tasks.conf import get_settings
from rail_async_tasks.definition import TaskDefinition
from rail_async_tasks.ids import new_id
from rail_async_tasks.runtime.attempts.context import ExecutionContext, TaskContext, TaskInfo
from rail_async_tasks.testing.connections import call_here, shared
from rail_async_tasks.testing.handles import definition_of


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
    """Runs the task's body once, and stores nothing.

    The body gets arguments that were encoded as for its row and decoded again, and `user` as
    `info.context.user`, by default an `AnonymousUser`. No retry follows, and no timeout is kept.

    On an event loop the loop waits, and the body runs on another; `arun_task` runs it on this one.

    Raises:
        What the body raises, `Retry` and `Fail` too.
        InvalidArguments: the arguments do not fit the task.
        ResultError: the result has no JSON form.
    """
    body = _Body(definition_of(task), user, arguments)
    return call_here(body.run)


async def arun_task(task: Any, user: Any = None, **arguments: Any) -> TaskRun:
    """`run_task` on the running loop. Raises as it does."""
    body = _Body(definition_of(task), user, arguments)
    with shared():
        return await body.arun()


class _Body:
    """One call of a task's function."""

    def __init__(self, definition: TaskDefinition, user: Any, arguments: dict[str, Any]) -> None:
        self._definition = definition
        self._user = user
        self._arguments = definition.codec.decode(definition.codec.encode(arguments))
        self._progress: list[Reported] = []

    def run(self) -> TaskRun:
        """Calls it in this thread, which has no running loop."""
        function, leading = self._definition.function, self._leading()
        if self._definition.is_coroutine:
            return self._done(async_to_sync(function)(*leading, **self._arguments))
        return self._done(function(*leading, **self._arguments))

    async def arun(self) -> TaskRun:
        """Calls it on this loop; a `def` in a thread."""
        function, leading = self._definition.function, self._leading()
        if self._definition.is_coroutine:
            return self._done(await function(*leading, **self._arguments))
        return self._done(await sync_to_async(function)(*leading, **self._arguments))

    def _leading(self) -> tuple[Any, ...]:
        from django.contrib.auth.models import AnonymousUser

        if not self._definition.takes_info:
            return ()
        task = TaskContext(
            id=new_id(),
            name=self._definition.name,
            attempt=1,
            queue=self._definition.options.queue or get_settings().default_queue,
            report=self._report if self._definition.options.track_progress else None,
        )
        user = AnonymousUser() if self._user is None else self._user
        info = TaskInfo(ExecutionContext(task, user, None))
        return (None, info) if self._definition.takes_root else (info,)

    def _report(self, percent: int, message: str | None) -> None:
        self._progress.append(Reported(percent, message))

    def _done(self, value: Any) -> TaskRun:
        return TaskRun(msgspec.json.decode(encode_result(value)), self._progress)
