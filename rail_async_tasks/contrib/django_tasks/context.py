"""What a Django task finds out about its own run: `context.task`, `current_task()`."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from rail_async_tasks.contrib.django_tasks import library
from rail_async_tasks.runtime.attempts.context import TaskContext as RunningTask
from rail_async_tasks.runtime.attempts.context import TaskInfo

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

# A task that no runtime of ours runs: its reports go nowhere.
_DETACHED: Final = RunningTask(id=UUID(int=0), name="", attempt=1, queue="default", report=None)

_current: contextvars.ContextVar[RunningTask | None] = contextvars.ContextVar(
    "rail_django_task", default=None
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext(library.TaskContext):  # type: ignore[misc]  # the stubs do not freeze it
    """The `context` of a Django task that `takes_context`, with what our runtime adds."""

    info: TaskInfo

    @property
    def task(self) -> RunningTask:
        """The running task: `update_progress()`, `track()`, `cancel_requested` and more."""
        return self.info.context.task

    @property
    def user(self) -> AbstractBaseUser | AnonymousUser:
        """The owner, loaded; `AnonymousUser` where there is none."""
        return self.info.context.user

    @property
    def tenant_id(self) -> str | None:
        return self.info.context.tenant_id


def current_task() -> RunningTask:
    """Returns the Django task that runs here, for functions that take no context.

    In its body and in what that calls, also in threads of `sync_to_async`. Where no runtime of ours
    runs the function (another backend, a direct call in a test), the returned task reports
    progress to no watcher and is never cancelled: the same function runs under every backend.
    """
    return _current.get() or _DETACHED


@contextmanager
def running(task: RunningTask) -> Iterator[None]:
    """Makes the task the current one. For the body alone: it may run in its caller's context."""
    token = _current.set(task)
    try:
        yield
    finally:
        _current.reset(token)
