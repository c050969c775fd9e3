"""Bodies of Django tasks: signals, context and JSON around the project's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rail_async_tasks.contrib.django_tasks import library, running_here, signals
from rail_async_tasks.contrib.django_tasks.context import TaskContext, running
from rail_async_tasks.contrib.django_tasks.json_form import returned
from rail_async_tasks.contrib.django_tasks.results import Arguments
from rail_async_tasks.runtime.attempts.calling import call
from rail_async_tasks.runtime.attempts.context import TaskInfo


def plain(task: library.Task) -> Callable[..., Any]:
    """Returns the body of a `def`."""

    def body(info: TaskInfo, **arguments: Any) -> Any:
        given = Arguments(**arguments)
        context = TaskContext(task_result=running_here.began(task, info, given), info=info)
        with running(context.task):
            signals.started(context.task_result)
            leading = (context,) if task.takes_context else ()
            return returned(call(task.func, (*leading, *given.args), given.kwargs))

    return body


def coroutine(task: library.Task) -> Callable[..., Any]:
    """Returns the body of an `async def`."""

    async def body(info: TaskInfo, **arguments: Any) -> Any:
        given = Arguments(**arguments)
        result = await running_here.abegan(task, info, given)
        context = TaskContext(task_result=result, info=info)
        with running(context.task):
            await signals.astarted(context.task_result)
            leading = (context,) if task.takes_context else ()
            return returned(await call(task.func, (*leading, *given.args), given.kwargs))

    return body
