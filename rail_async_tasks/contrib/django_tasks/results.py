"""Executions as results of Django's tasks: statuses, times, errors."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from django.conf import settings
from django.utils import timezone

from rail_async_tasks.contrib.django_tasks import library
from rail_async_tasks.handle import TaskHandle
from rail_async_tasks.runtime.attempts.waits import Maker
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import ErrorCode, Status

_STATUSES: Final = {
    Status.PENDING: library.TaskResultStatus.READY,
    Status.RETRYING: library.TaskResultStatus.READY,  # "ready to be executed again"
    Status.RUNNING: library.TaskResultStatus.RUNNING,
    Status.COMPLETED: library.TaskResultStatus.SUCCESSFUL,
    Status.FAILED: library.TaskResultStatus.FAILED,
    Status.CANCELLED: library.TaskResultStatus.FAILED,
}

# The exceptions of ends that no exception of a body has caused.
_CAUSES: Final[dict[str, str]] = {
    ErrorCode.TIMEOUT: "builtins.TimeoutError",
    ErrorCode.CANCELLED: "rail_async_tasks.errors.TaskCancelled",
    ErrorCode.INVALID_ARGS: "rail_async_tasks.errors.InvalidArguments",
    ErrorCode.RESULT_NOT_SERIALIZABLE: "rail_async_tasks.errors.ResultError",
    ErrorCode.RESULT_TOO_LARGE: "rail_async_tasks.errors.ResultError",
}
_OTHER_CAUSE: Final = "rail_async_tasks.errors.TaskFailed"


class Arguments(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The `arguments` of a row of a Django task.

    Attributes:
        backend: the alias that it was enqueued with.
        run_after: as it was asked for, in ISO 8601: the row's own time is cleared once it is due.
    """

    args: list[Any]
    kwargs: dict[str, Any]
    backend: str
    run_after: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns those that are given, by name."""
        given = {"args": self.args, "kwargs": self.kwargs, "backend": self.backend}
        return given if self.run_after is None else {**given, "run_after": self.run_after}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult(library.TaskResult):  # type: ignore[misc]  # the stubs do not freeze it
    """Django's `TaskResult`, with the execution behind it as `handle`."""

    _snapshot: TaskSnapshot | None = field(init=False, default=None, repr=False, compare=False)
    # A body may take the handle in a thread that does not have the body's context.
    _maker: Maker | None = field(
        init=False, default_factory=Maker.current, repr=False, compare=False
    )

    @property
    def handle(self) -> TaskHandle[Any]:
        """The execution when it was last read: `result(timeout)`, `cancel()`, `snapshot`."""
        assert self._snapshot is not None
        return TaskHandle(self._snapshot, _maker=self._maker)

    def refresh(self) -> None:
        """Read the result again."""
        self._take(self.task.get_backend().get_result(self.id))

    async def arefresh(self) -> None:
        """`refresh()` from async code."""
        self._take(await self.task.get_backend().aget_result(self.id))

    def _take(self, fresh: library.TaskResult) -> None:
        for name in _REFRESHED:
            object.__setattr__(self, name, getattr(fresh, name))


_REFRESHED: Final = (
    "errors", "_return_value", "finished_at", "started_at", "last_attempted_at", "status",
    "enqueued_at", "worker_ids", "_snapshot",
)  # fmt: skip


def new_result(task: library.Task, arguments: Arguments) -> TaskResult:
    """Returns a result of which nothing is stored yet.

    Raises `TypeError` for an argument without a JSON form, as Django's own does.
    """
    return TaskResult(
        task=task, id="", status=library.TaskResultStatus.READY, enqueued_at=None, started_at=None,
        finished_at=None, last_attempted_at=None, args=arguments.args, kwargs=arguments.kwargs,
        backend=arguments.backend, errors=[], worker_ids=[],
    )  # fmt: skip


def result_of(
    task: library.Task, snapshot: TaskSnapshot, arguments: Arguments, traceback: str | None
) -> TaskResult:
    """Returns the execution as a result. `task` is as it was declared."""
    result = new_result(as_enqueued(task, snapshot, arguments), arguments)
    fill(result, snapshot, traceback)
    return result


def fill(result: TaskResult, snapshot: TaskSnapshot, traceback: str | None) -> None:
    """Sets in the result what the execution shows."""
    begun = _local(snapshot.started_at)
    status = _STATUSES[Status(snapshot.status)]
    values = {
        "id": str(snapshot.id),
        "status": status,
        "enqueued_at": _local(snapshot.created_at),
        # The row keeps the start of its last attempt only.
        "started_at": begun,
        "last_attempted_at": begun,
        "finished_at": _local(snapshot.completed_at),
        "errors": errors_of(snapshot, traceback),
        # One for each attempt. The row does not keep which process ran one that has ended.
        "worker_ids": [f"{snapshot.id}:{number}" for number in range(1, snapshot.attempts + 1)],
        "_return_value": snapshot.result,
        "_snapshot": snapshot,
    }
    for name, value in values.items():
        object.__setattr__(result, name, value)


def as_enqueued(task: library.Task, snapshot: TaskSnapshot, arguments: Arguments) -> library.Task:
    """Returns the task with the options of this execution."""
    run_after = arguments.run_after
    options = {
        "priority": snapshot.priority,
        "queue_name": snapshot.queue,
        "backend": arguments.backend,
        "run_after": None if run_after is None else datetime.fromisoformat(run_after),
    }
    return changed(task, options)


def changed(task: library.Task, changes: Mapping[str, Any]) -> library.Task:
    """Returns a copy with other attributes.

    Not by `using()`, which validates it: a queue may be gone from the settings by now.
    """
    copy: library.Task = object.__new__(type(task))
    for name in task.__dataclass_fields__:
        object.__setattr__(copy, name, changes.get(name, getattr(task, name)))
    return copy


def errors_of(snapshot: TaskSnapshot, traceback: str | None) -> list[library.TaskError]:
    """Returns the error of the last attempt; the row keeps no earlier ones."""
    if snapshot.error_code is None:
        return []
    path = _exception_path(snapshot, traceback)
    message = snapshot.error or snapshot.error_code
    return [
        library.TaskError(exception_class_path=path, traceback=traceback or f"{path}: {message}\n")
    ]


def _exception_path(snapshot: TaskSnapshot, traceback: str | None) -> str:
    """Returns the dotted path of the exception's class.

    The row keeps the class's name. Its path begins the last line of the traceback that names it.
    """
    name = snapshot.error_type
    if name is None or traceback is None:
        return _CAUSES.get(snapshot.error_code or "", _OTHER_CAUSE)
    line = re.compile(rf"^[ |+]*((?:[\w<>]+\.)*{re.escape(name)})(?=:|$)", re.MULTILINE)
    found = line.findall(traceback)
    path: str = found[-1] if found else name
    if "." in path:
        return path
    return f"builtins.{path}" if hasattr(builtins, path) else f"__main__.{path}"


def _local(at: datetime | None) -> datetime | None:
    """Returns a time as Django's ORM would: naive where USE_TZ is off."""
    if at is None or settings.USE_TZ:
        return at
    return timezone.make_naive(at, timezone.get_default_timezone())
