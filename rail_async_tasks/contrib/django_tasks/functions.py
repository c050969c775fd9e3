"""Functions of Django tasks as definitions of ours: named by their module path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from inspect import Parameter, Signature
from typing import Any, Final

from asgiref.sync import iscoroutinefunction

from rail_async_tasks.contrib.django_tasks import bodies, library
from rail_async_tasks.contrib.django_tasks.options import options_of
from rail_async_tasks.declaration.definition import TaskDefinition, define
from rail_async_tasks.errors import TaskDeclarationError
from rail_async_tasks.registry import registry
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.django_tasks")

# The parameters of every body, whatever its function's: JSON as it was passed.
_SIGNATURE: Final = Signature(
    [
        Parameter("info", Parameter.POSITIONAL_OR_KEYWORD, annotation=Any),
        Parameter("args", Parameter.POSITIONAL_OR_KEYWORD, annotation=list[Any]),
        Parameter("kwargs", Parameter.POSITIONAL_OR_KEYWORD, annotation=dict[str, Any]),
        Parameter("backend", Parameter.POSITIONAL_OR_KEYWORD, annotation=str),
        Parameter(
            "run_after", Parameter.POSITIONAL_OR_KEYWORD, annotation=str | None, default=None
        ),
    ]
)


def declare(task: library.Task, options: Mapping[str, Any]) -> TaskDefinition:
    """Registers the task's function, unless it is; returns its definition.

    Args:
        options: `TaskOptions` of the backend that the task names.

    Raises:
        InvalidTask: it can't be a task of ours: it is a generator, or another function has its
            name.
    """
    known = registry.get(task.module_path)
    if known is not None and inspect.unwrap(known.function) is inspect.unwrap(task.func):
        return known
    try:
        definition = define(
            _body(task),
            name=task.module_path,
            queue=task.queue_name,
            priority=int(task.priority),
            **options,
        )
        return registry.register(definition)
    except TaskDeclarationError as error:
        raise library.InvalidTask(str(error)) from error


def task_of(definition: TaskDefinition | None) -> library.Task | None:
    """Returns the Django task of a definition; None for one of our own tasks."""
    return getattr(definition.function, "django_task", None) if definition is not None else None


def find(name: str) -> library.Task | None:
    """Returns the Django task of that name; imports its module where that has not happened yet."""
    return task_of(registry.find(name))


def import_task(name: str) -> None:
    """Has the module of a task imported, so that the task registers itself. Logs what fails.

    The name is from a row. It is imported, and never called: only what a Django `Task` in the
    module has as its function can be run.
    """
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        return
    try:
        found = _import(parts)
    except Exception as error:  # noqa: BLE001 (the module's own code)
        logger.warning("The module of the task %s can't be imported: %s", name, error)
        return
    # One that names another backend has not registered itself: it was enqueued by
    # `.using(backend=...)`.
    if isinstance(found, library.Task) and found.module_path == name:
        declare(found, options_of(found, {}))


def _import(parts: list[str]) -> Any:
    """Returns what a dotted path names, or None."""
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            missing = (error.name or "").split(".")
            if missing != parts[:length][: len(missing)]:
                raise  # the module is there, and imports one that is not
            continue
        for name in parts[length:]:
            found = getattr(found, name, None)
        return found
    return None


def _body(task: library.Task) -> Callable[..., Any]:
    """Returns the function that the runtime calls, with the name and docstring of the task's."""
    call = bodies.coroutine(task) if iscoroutinefunction(task.func) else bodies.plain(task)
    body = wraps(task.func)(call)
    body.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
    body.django_task = task  # type: ignore[attr-defined]
    return body
