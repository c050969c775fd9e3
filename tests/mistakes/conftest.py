"""A newcomer's project in this process: no task is declared but those of the test."""

from __future__ import annotations

from typing import Any

import pytest

from rail_async_tasks import Task, task
from rail_async_tasks.registry import registry


@pytest.fixture(autouse=True)
def no_task_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_definitions", {})
    for name in ("coroutine_names", "thread_names"):
        monkeypatch.setattr(registry, name, frozenset())


@pytest.fixture
def report(no_task_is_declared: None) -> Task:
    """A task with two arguments."""

    @task
    def report(info: Any, count: int, customer: str = "") -> dict[str, int]:
        """Count something."""
        return {"count": count}

    return report
