"""Tools for the tests of a project that uses this package: see docs/testing.md.

`rail_tasks` is a fixture of the pytest plugin, `TaskTestMixin` gives Django's test cases the same
object as `self.tasks`. `run_task` runs one body, `subscribe` follows a subscription. `backends` is
another room: the suite for authors of backends.

The names are imported when they are first asked for: pytest imports this package in every project
of an environment, also in those without Django.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rail_async_tasks.testing.bodies import Reported, TaskRun, arun_task, run_task
    from rail_async_tasks.testing.handles import EnqueuedTask
    from rail_async_tasks.testing.isolation import stop_runtime
    from rail_async_tasks.testing.mixin import TaskTestMixin
    from rail_async_tasks.testing.subscriptions import subscribe
    from rail_async_tasks.testing.tools import RailTasks

__all__ = [
    "EnqueuedTask",
    "RailTasks",
    "Reported",
    "TaskRun",
    "TaskTestMixin",
    "arun_task",
    "run_task",
    "stop_runtime",
    "subscribe",
]

_HOMES = {
    "EnqueuedTask": "handles",
    "RailTasks": "tools",
    "TaskTestMixin": "mixin",
    "stop_runtime": "isolation",
    "subscribe": "subscriptions",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'bodies')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
