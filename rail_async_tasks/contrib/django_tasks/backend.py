"""`TaskBackend`: runs the functions of Django's `@task` on our runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.core.checks import CheckMessage, Error

from rail_async_tasks.access import SYSTEM
from rail_async_tasks.backends import get_backend
from rail_async_tasks.contrib.django_tasks import functions, library, observer, signals
from rail_async_tasks.contrib.django_tasks.options import Task, option_problem, options_of
from rail_async_tasks.contrib.django_tasks.results import (
    TaskResult,
    changed,
    fill,
    result_of,
)
from rail_async_tasks.contrib.django_tasks.starts import Start
from rail_async_tasks.errors import ConfigurationError, TaskNotFound
from rail_async_tasks.hosting import process
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime import observers
from rail_async_tasks.text import is_storable

if TYPE_CHECKING:
    from rail_async_tasks.ledger.port import Ledger
    from rail_async_tasks.snapshot import TaskSnapshot

# In characters: the width of the column.
_MAX_QUEUE: Final = 100


class TaskBackend(library.BaseTaskBackend):
    """A backend for the TASKS setting: `rail_async_tasks.contrib.django_tasks.TaskBackend`.

    QUEUES means what Django says. OPTIONS may have `max_retries` (by default 0), `retry_delay`,
    `retry_backoff`, `timeout`, `rerun_on_crash` and `track_progress`, as `@task` of ours has; so
    may the decorator itself, `@task(timeout=60)`, where Django passes such keywords on.
    """

    task_class = Task
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        observers.register(observer.observe)
        signals.flush_at_the_end()
        registry.add_finder(functions.import_task)
        registry.add_queues(queue for queue in self.queues if _queue_problem(queue) is None)

    def validate_task(self, task: library.Task) -> None:
        """As Django's; then registers the function. Raises `InvalidTask`."""
        super().validate_task(_dated(task))
        if problem := _queue_problem(task.queue_name):
            raise library.InvalidTask(f"queue_name {problem}, not {task.queue_name!r:.100}.")
        functions.declare(task, options_of(task, self.options))

    # --- enqueue ---------------------------------------------------------------------------------

    def enqueue(  # type: ignore[override]  # the stubs bind a function's types
        self, task: library.Task, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> TaskResult:
        """Store an execution. In a transaction it is part of that, and starts after the commit.

        Raises:
            InvalidTask: as `validate_task`.
            TypeError: an argument has no JSON form.
            InvalidArguments: an argument that no database stores, or arguments that are too large.
            QueueFull, TasksDisabled, BackendUnavailable, ConfigurationError: nothing was stored.
            RuntimeError: called on an event loop, which it would block.
        """
        from rail_async_tasks.service.enqueuing import store

        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                f"{task.name}.enqueue() was called on an event loop, which it would block:"
                f" write `await {task.name}.aenqueue(...)`."
            )
        start = self._start(task, args, kwargs)
        with start.storing(inline=get_backend(start.settings).inline):
            snapshot = store(start.new, start.options, start.settings)
        if start.stored(snapshot):
            signals.enqueued(start.result)
        elif snapshot.error_code is not None:
            fill(start.result, snapshot, _traceback(process.ledger(), snapshot))
        return start.result

    async def aenqueue(  # type: ignore[override]
        self, task: library.Task, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> TaskResult:
        """`enqueue()` from async code; no thread is used where the runtime is on this loop."""
        from rail_async_tasks.service.enqueuing import astore
        from rail_async_tasks.service.read import on_ledger

        start = self._start(task, args, kwargs)
        with start.storing(inline=get_backend(start.settings).inline):
            snapshot = await astore(start.new, start.options, start.settings)
        if start.stored(snapshot):
            await signals.aenqueued(start.result)
        elif snapshot.error_code is not None:
            traceback = await on_ledger(lambda ledger: _traceback(ledger, snapshot))
            fill(start.result, snapshot, traceback)
        return start.result

    def _start(self, task: library.Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Start:
        self.validate_task(task)
        if problem := option_problem(self.options):
            raise ConfigurationError(f'TASKS["{self.alias}"]["OPTIONS"] {problem}')
        options = options_of(task, self.options)
        return Start(task, functions.declare(task, options), args, kwargs, options)

    # --- results ---------------------------------------------------------------------------------

    def get_result(self, result_id: str) -> TaskResult:
        """Returns the execution of that id as a result.

        Any caller that knows an id gets the result: the project checks access.

        Raises:
            TaskResultDoesNotExist: there is none, it has expired, or it is of another alias or of
                one of our own tasks.
        """
        return self._read(process.ledger(), result_id)

    async def aget_result(self, result_id: str) -> TaskResult:
        """`get_result()` from async code."""
        from rail_async_tasks.service.read import on_ledger

        return await on_ledger(lambda ledger: self._read(ledger, result_id))

    def _read(self, ledger: Ledger, result_id: str) -> TaskResult:
        from rail_async_tasks.service.read import read, seen_by

        try:
            snapshot = seen_by(SYSTEM, read(ledger, result_id))
        except TaskNotFound:
            raise library.TaskResultDoesNotExist(result_id) from None
        arguments = observer.read_arguments(ledger.arguments(snapshot.id))
        if arguments is None or arguments.backend != self.alias:
            raise library.TaskResultDoesNotExist(result_id)
        task = functions.find(snapshot.name)
        if task is None:
            raise library.TaskResultDoesNotExist(
                f"{result_id}: its function {snapshot.name} does not exist any more."
            )
        return result_of(task, snapshot, arguments, _traceback(ledger, snapshot))

    # --- checks ----------------------------------------------------------------------------------

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Checks the alias's part of the TASKS setting (E030, E031)."""
        found = list(super().check(**kwargs))
        place = f'TASKS["{self.alias}"]'
        if problem := option_problem(self.options):
            hint = "They are options of a task: see the page on django.tasks."
            message = f'{place}["OPTIONS"] {problem}'
            found.append(Error(message, hint=hint, id="rail_async_tasks.E030"))
        for queue in sorted(self.queues, key=repr):
            if problem := _queue_problem(queue):
                message = f'{place}["QUEUES"]: a name {problem}, not {queue!r:.100}.'
                hint = "QUEUES is a list of names of queues."
                found.append(Error(message, hint=hint, id="rail_async_tasks.E030"))
        if not apps.is_installed("rail_async_tasks"):
            message = f"{place} runs tasks by rail_async_tasks, which is not in INSTALLED_APPS."
            hint = 'Add it: INSTALLED_APPS = [..., "rail_async_tasks"].'
            found.append(Error(message, hint=hint, id="rail_async_tasks.E031"))
        return found


def _dated(task: library.Task) -> library.Task:
    """Returns the task for Django's own validation, which can't read a timedelta as `run_after`."""
    delayed = isinstance(task.run_after, timedelta)
    return changed(task, {"run_after": None}) if delayed else task


def _traceback(ledger: Ledger, snapshot: TaskSnapshot) -> str | None:
    """Returns the traceback of an execution whose last attempt has one."""
    if snapshot.error_code is None:
        return None
    return ledger.tracebacks([snapshot.id]).get(snapshot.id)


def _queue_problem(queue: object) -> str | None:
    """Returns the rule that a queue's name breaks, or None."""
    fits = isinstance(queue, str) and 0 < len(queue) <= _MAX_QUEUE
    if fits and is_storable(str(queue)) and str(queue).strip() == queue:
        return None
    return f"must be text of 1 to {_MAX_QUEUE} characters without spaces at its ends"
