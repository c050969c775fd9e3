"""Fixtures: the TASKS setting, the backends of ours, signals that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.django_tasks import bodies
from tests.django_tasks.api import TASKS, task_enqueued, task_finished, task_started
from tests.support.runtimes import (
    Configure,
    configure,
    declarations_are_the_tests_own,
    ends_cleanly,
    store,
)

__all__ = ["configure", "declarations_are_the_tests_own", "ends_cleanly", "store"]

Signals = list[tuple[str, Any]]


# Other suites compare the ledgers.
on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def tasks_setting(settings: Any) -> Iterator[None]:
    """TASKS names our backend under each alias."""
    settings.TASKS = TASKS
    bodies.seen.clear()
    bodies.gate.clear()
    yield
    bodies.gate.set()


@pytest.fixture(params=["asyncio", "thread", "sync", "memory"])
def backend(request: pytest.FixtureRequest, configure: Configure) -> str:
    """The backend of ours that runs the tasks; `memory` is `asyncio` with rows in memory."""
    name: str = request.param
    in_memory = name == "memory"
    configure(backend="asyncio" if in_memory else name, track_in_database=not in_memory)
    return name


@pytest.fixture
def signals() -> Iterator[Signals]:
    """The signals that were sent, as their names and task results."""
    sent: Signals = []
    all_signals = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}

    def keep(name: str) -> Any:
        def receive(sender: Any, task_result: Any, **_: Any) -> None:
            sent.append((f"{name} {task_result.status}", task_result))

        return receive

    receivers = {name: keep(name) for name in all_signals}
    for name, signal in all_signals.items():
        signal.connect(receivers[name], weak=False)
    yield sent
    for name, signal in all_signals.items():
        signal.disconnect(receivers[name])
