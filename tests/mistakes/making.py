"""How newcomers meet a message: `manage.py check`, an exception, a failed task."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test.utils import override_settings

from rail_async_tasks import Task, TaskError, TaskFailed
from rail_async_tasks.checks import TAG


def checked(tasks: Any = None, schema: Any = None, **django: Any) -> str:
    """Returns what `manage.py check` prints of the package under these settings."""
    raw = {"task_settings": tasks or {}, "schema_settings": schema or {}}
    with override_settings(**{"RAIL_DJANGO_GRAPHQL": raw, **django}):
        found = run_checks(tags=[TAG])
    return "\n".join(map(str, found))


def raised(kind: type[BaseException], call: Callable[[], Any]) -> str:
    """Returns the text of the exception that a call raises, with its notes."""
    with pytest.raises(kind) as error:
        call()
    return "\n".join([str(error.value), *getattr(error.value, "__notes__", ())])


def refused(call: Callable[[], Any]) -> str:
    """Returns the text of the `TaskError` that a call raises."""
    return raised(TaskError, call)


def failed(task: Task, **arguments: Any) -> str:
    """Returns the error of a task that fails, which runs here and now."""
    settings = {"backend": "sync", "max_retries": 0}
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": settings}):
        return raised(TaskFailed, task.enqueue(**arguments).result)


def module(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    """Puts a module in place that settings may name."""
    made = ModuleType(name)
    vars(made).update(attributes)
    monkeypatch.setitem(sys.modules, name, made)


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Makes the imports of a package fail, as if it were not installed."""
    ours = f"rail_async_tasks.backends.{package}"  # has it already, in an earlier test
    for name in list(sys.modules):
        if name.split(".")[0] == package or name.startswith(ours):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
