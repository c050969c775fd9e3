"""Background tasks for Django and Strawberry GraphQL: mutations start, subscriptions follow them.

The public names are imported when they are first asked for: Django imports this package before any
model can exist.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rail_async_tasks import queues
    from rail_async_tasks.declare import BoundTask, Task, task
    from rail_async_tasks.errors import (
        AlreadyFinal,
        BackendUnavailable,
        ConfigurationError,
        Fail,
        InvalidArguments,
        NotFinal,
        QueueFull,
        RateLimited,
        Retry,
        TaskCancelled,
        TaskDeclarationError,
        TaskError,
        TaskFailed,
        TaskNotFound,
        TasksDisabled,
        TooComplex,
        TooLarge,
        TooMany,
        Unauthenticated,
        UnknownQueue,
        WouldWaitForever,
    )
    from rail_async_tasks.graphql.decorator import task_mutation
    from rail_async_tasks.handle import TaskHandle
    from rail_async_tasks.runtime.attempts.around import AttemptInfo
    from rail_async_tasks.runtime.attempts.context import TaskInfo

__all__ = [
    "AlreadyFinal",
    "AttemptInfo",
    "BackendUnavailable",
    "BoundTask",
    "ConfigurationError",
    "Fail",
    "InvalidArguments",
    "NotFinal",
    "QueueFull",
    "RateLimited",
    "Retry",
    "Task",
    "TaskCancelled",
    "TaskDeclarationError",
    "TaskError",
    "TaskFailed",
    "TaskHandle",
    "TaskInfo",
    "TaskNotFound",
    "TasksDisabled",
    "TooComplex",
    "TooLarge",
    "TooMany",
    "Unauthenticated",
    "UnknownQueue",
    "WouldWaitForever",
    "queues",
    "task",
    "task_mutation",
]

__version__ = "0.1.0"

# Public names that are modules.
_MODULES = {"queues"}

# Where the names live that are no errors.
_HOMES = {
    "AttemptInfo": "rail_async_tasks.runtime.attempts.around",
    "BoundTask": "rail_async_tasks.declare",
    "Task": "rail_async_tasks.declare",
    "TaskHandle": "rail_async_tasks.handle",
    "TaskInfo": "rail_async_tasks.runtime.attempts.context",
    "task": "rail_async_tasks.declare",
    "task_mutation": "rail_async_tasks.graphql.decorator",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(_HOMES.get(name, "rail_async_tasks.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
