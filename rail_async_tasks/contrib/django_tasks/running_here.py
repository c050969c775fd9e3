"""The attempts of Django tasks that run in this process, as the runtime has claimed them."""

from __future__ import annotations

from uuid import UUID

from rail_async_tasks.access import SYSTEM
from rail_async_tasks.contrib.django_tasks import library
from rail_async_tasks.contrib.django_tasks.results import Arguments, TaskResult, result_of
from rail_async_tasks.forks import after_fork
from rail_async_tasks.runtime.attempts.context import TaskInfo
from rail_async_tasks.snapshot import TaskSnapshot


class Run:
    """One attempt: the snapshot of its claim; its arguments, once its body has begun."""

    __slots__ = ("arguments", "snapshot")

    def __init__(self, snapshot: TaskSnapshot) -> None:
        self.snapshot = snapshot
        self.arguments: Arguments | None = None


_runs: dict[UUID, Run] = {}
after_fork(_runs.clear)


def claimed(snapshot: TaskSnapshot) -> None:
    """Keeps the snapshot until the attempt ends."""
    _runs[snapshot.id] = Run(snapshot)


def ended(execution_id: UUID) -> Arguments | None:
    """Forgets the attempt; returns its arguments where its body had begun here."""
    run = _runs.pop(execution_id, None)
    return None if run is None else run.arguments


def began(task: library.Task, info: TaskInfo, arguments: Arguments) -> TaskResult:
    """Returns the result of the attempt whose body begins now: RUNNING."""
    run = _runs.get(info.context.task.id)
    if run is None:  # a runtime that was started before TASKS named our backend: no observer
        from rail_async_tasks import service

        run = Run(service.get(SYSTEM, info.context.task.id))
    return _begin(task, run, arguments)


async def abegan(task: library.Task, info: TaskInfo, arguments: Arguments) -> TaskResult:
    """`began()` from async code."""
    run = _runs.get(info.context.task.id)
    if run is None:
        from rail_async_tasks import service

        run = Run(await service.aget(SYSTEM, info.context.task.id))
    return _begin(task, run, arguments)


def _begin(task: library.Task, run: Run, arguments: Arguments) -> TaskResult:
    run.arguments = arguments
    return result_of(task, run.snapshot, arguments, None)
