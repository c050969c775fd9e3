"""The text of a task's error that one viewer reads: the `public_errors` setting. Pure.

A text is declared where its author wrote it for users: by `Fail`, by a refusal of this package, or
by the runtime itself (a timeout, a lost process). Any other text is an exception's, and may hold
anything that the body had at hand.

The row needs no column for it. `error_code` names the runtime's own texts, and `error_type` the
class: an undeclared exception whose class has the name of a declared one is stored with its module.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol
from uuid import UUID

from rail_async_tasks.access import Viewer
from rail_async_tasks.errors import (
    ConfigurationError,
    Fail,
    TablesMissing,
    TaskCancelled,
    TaskDeclarationError,
    TaskError,
    TaskFailed,
)
from rail_async_tasks.states import ErrorCode
from rail_async_tasks.text import MAX_TYPE_BYTES, clean, type_name

# Errors of ours whose text is for developers, or is the text of another task's exception.
_NOT_PUBLIC: Final = (
    ConfigurationError, TablesMissing, TaskCancelled, TaskDeclarationError, TaskFailed,
)  # fmt: skip

# The runtime writes these texts: numbers, and names of tasks, queues and arguments.
_OWN_TEXTS: Final = frozenset(
    {
        ErrorCode.TIMEOUT,
        ErrorCode.WORKER_LOST,
        ErrorCode.UNKNOWN_TASK,
        ErrorCode.INVALID_ARGS,
        ErrorCode.RESULT_TOO_LARGE,
        ErrorCode.CANCELLED,
    }
)


class Failed(Protocol):
    """A snapshot, as far as its error is read."""

    @property
    def id(self) -> UUID: ...
    @property
    def error(self) -> str | None: ...
    @property
    def error_code(self) -> str | None: ...
    @property
    def error_type(self) -> str | None: ...


def error_for(viewer: Viewer | None, task: Failed, public_errors: str) -> str | None:
    """Returns the text that `viewer`, who may see the task, reads as its error.

    Superusers and staff with the right read it as it is. None for a viewer masks as for strangers.
    """
    if task.error is None or (viewer is not None and viewer.sees_all):
        return task.error
    if public_errors == "all" and viewer is not None and not viewer.is_anonymous:
        return task.error
    return task.error if is_declared(task) else masked(task.id)


def masked(task_id: UUID) -> str:
    """Returns the text in place of an exception's; its id is in the log's lines of the failure."""
    return f"Internal error (reference {task_id})."


def is_declared(task: Failed) -> bool:
    """Returns whether the author of the task's error wrote its text for users."""
    if task.error_code in _OWN_TEXTS:
        return True
    return task.error_type is not None and task.error_type in {it.__name__ for it in _declared()}


def error_type(error: BaseException) -> str:
    """Returns the name of the error's class, as it is stored and shown.

    With its module where the bare name is that of a declared class, and the text is not declared.
    """
    name = type_name(error)
    kind = type(error)
    declared = set(_declared())
    if kind in declared or all(name != it.__name__ for it in declared):
        return name
    return clean(f"{kind.__module__}.{kind.__qualname__}", MAX_TYPE_BYTES)


def _declared() -> Iterator[type[BaseException]]:
    """Yields `Fail`, `TaskError` and their subclasses, the project's too.

    Of this package's classes only those of `errors`: bodies raise no others. REST has refusals of
    its own, and whether a process has imported them must not decide what is public.
    """
    waiting: list[type[BaseException]] = [Fail, TaskError]
    while waiting:
        kind = waiting.pop()
        if kind not in _NOT_PUBLIC and not _is_of_an_edge(kind):
            yield kind
            waiting.extend(kind.__subclasses__())


def _is_of_an_edge(kind: type[BaseException]) -> bool:
    module = kind.__module__
    return module.startswith("rail_async_tasks.") and module != TaskError.__module__
