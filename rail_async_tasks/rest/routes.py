"""The REST API as one table: paths, operations, responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.urls import URLPattern, path, re_path

from rail_async_tasks.rest import views
from rail_async_tasks.rest.endpoint import ROOT
from rail_async_tasks.rest.parameters import LIST_PARAMETERS

# The error codes of every operation.
_ALWAYS: Final = (
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "INTERNAL_ERROR",
    "TASKS_DISABLED",
    "BACKEND_UNAVAILABLE",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation. `path` is relative to the list's; `answer` names the response's schema."""

    name: str
    path: str
    method: str
    view: Callable[..., Any]
    summary: str
    answer: str
    status: int = 200
    codes: tuple[str, ...] = ()
    parameters: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def all_codes(self) -> tuple[str, ...]:
        """Returns every error code of the operation."""
        return (*_ALWAYS, *self.codes)


ROUTES: Final = (
    Route(
        name="tasks",
        path="",
        method="get",
        view=views.many_tasks,
        summary="The caller's tasks, newest first; every task for those who may see them all.",
        answer="TaskPage",
        codes=("TOO_LARGE",),
        parameters=LIST_PARAMETERS,
    ),
    Route(
        name="task",
        path="<str:task_id>/",
        method="get",
        view=views.one_task,
        summary="One task as it stands.",
        answer="Task",
        codes=("NOT_FOUND", "TOO_LARGE"),
    ),
    Route(
        name="task-cancel",
        path="<str:task_id>/cancel/",
        method="post",
        view=views.cancel_task,
        summary="Ask an unfinished task to end.",
        answer="Task",
        codes=("CSRF_FAILED", "NOT_FOUND", "ALREADY_FINAL"),
    ),
    Route(
        name="task-retry",
        path="<str:task_id>/retry/",
        method="post",
        view=views.retry_task,
        summary="Run a finished task again, as a new task whose `parent_id` it is.",
        answer="Task",
        status=201,
        codes=("CSRF_FAILED", "FORBIDDEN", "NOT_FOUND", "NOT_FINAL", "QUEUE_FULL", "RATE_LIMITED"),
    ),
    Route(
        name="task-events",
        path="<str:task_id>/events/",
        method="get",
        view=views.task_events,
        summary="The task as it stands, then its changes in order, to its end.",
        answer="events",
        codes=("NOT_FOUND", "TOO_MANY", "TOO_LARGE"),
    ),
)


def task_urls() -> list[URLPattern]:
    """Returns the URL patterns of the table.

    Each URL works without its last slash too: Django's redirect to the one that has it would turn
    a POST into a GET.
    """
    patterns = [
        pattern
        for route in ROUTES
        for pattern in (
            path(ROOT + route.path, route.view, name=route.name),
            path((ROOT + route.path).removesuffix("/"), route.view),
        )
    ]
    # A pattern that Django can reverse: one that it cannot breaks every `reverse()`.
    everything_else = re_path(rf"^{ROOT}[\s\S]*\Z", views.no_such_url)
    return [*patterns, everything_else]
