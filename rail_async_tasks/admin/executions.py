"""Tasks in the admin: the list, a task's page, cancel and retry."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from rail_async_tasks.access import Viewer
from rail_async_tasks.admin import columns
from rail_async_tasks.admin.changes import cancel, change_all, retry
from rail_async_tasks.admin.filters import AgeFilter, QueueFilter, StatusFilter
from rail_async_tasks.admin.read_only import InTheirOrder, ReadOnlyAdmin, newest
from rail_async_tasks.ids import parse_id
from rail_async_tasks.ledger.rows import unexpired
from rail_async_tasks.models import TaskEvent, TaskExecution
from rail_async_tasks.redaction import shown_arguments
from rail_async_tasks.text import is_storable

# The columns of the list alone: the others may be large.
LISTED = (
    "id", "name", "status", "queue", "owner_id", "progress", "attempts", "cancel_requested",
    "created_at",
)  # fmt: skip


class ListedColumns(InTheirOrder):
    """Reads the columns of the list."""

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: Any = None
    ) -> QuerySet[TaskExecution]:
        return super().get_queryset(request, exclude_parameters).only(*LISTED)


class TaskExecutionAdmin(ReadOnlyAdmin[TaskExecution]):
    """Tasks, newest first. Expired ones are hidden, as from every read."""

    list_display = (
        "id", "name", "status", "bar", "queue", "owner_id", "attempts", "created_at", "live",
    )  # fmt: skip
    list_filter = (StatusFilter, AgeFilter, QueueFilter)
    search_fields = ("id",)  # `get_search_results` decides
    search_help_text = "An id or the beginning of one, an owner's id, or a part of a task's name."
    actions = ("cancel_selected", "retry_selected")
    fieldsets = (
        (None, {"fields": (
            "id", "live", "name", "state", "bar", "progress_message", "queue", "priority",
            "owner_id", "tenant_id", "parent", "language",
        )}),
        ("Attempts", {"fields": (
            "attempts", "retry_count", "max_retries", "crashes", "created_at", "run_after",
            "started_at", "completed_at", "expires_at", "updated_at", "history",
        )}),
        ("What it was given, and what came of it", {"fields": (
            "arguments_shown", "result_shown", "error_code", "error_type", "error_shown",
            "traceback_shown",
        )}),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskExecution]:
        rows = super().get_queryset(request)
        return rows.filter(unexpired(rows.db))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ListedColumns]:
        return ListedColumns

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[TaskExecution], search_term: str
    ) -> tuple[QuerySet[TaskExecution], bool]:
        """Finds an owner's tasks, else a task by its id, else names among the newest tasks."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if not is_storable(term):
            return queryset.none(), False
        table: QuerySet[TaskExecution] = QuerySet(TaskExecution, using=queryset.db)
        if table.filter(owner_id=term).exists():
            return queryset.filter(owner_id=term), False
        between = _ids_that_begin_with(term)
        if between is not None:
            return queryset.filter(id__range=between), False
        return newest(queryset).filter(name__icontains=term), False

    # --- columns ---------------------------------------------------------------------------------

    @admin.display(description="progress")
    def bar(self, task: TaskExecution) -> SafeString:
        """Returns the progress as a bar."""
        return columns.bar(task.progress)

    @admin.display(description="dashboard")
    def live(self, task: TaskExecution) -> str:
        """Returns a link to the live page."""
        return columns.live_link(task.id)

    @admin.display(description="status")
    def state(self, task: TaskExecution) -> str:
        """Returns the state, and whether a cancel was asked for."""
        return f"{task.status}, cancel requested" if task.cancel_requested else task.status

    @admin.display(description="retry of")
    def parent(self, task: TaskExecution) -> str:
        """Returns a link to the task that this one retries."""
        return columns.task_link(self.admin_site, task.parent_id)

    @admin.display(description="arguments")
    def arguments_shown(self, task: TaskExecution) -> str:
        """Returns the arguments, without sensitive ones."""
        return columns.as_json(shown_arguments(task.name, json.dumps(task.arguments)))

    @admin.display(description="result")
    def result_shown(self, task: TaskExecution) -> str:
        """Returns the result."""
        return columns.as_json(task.result)

    @admin.display(description="error")
    def error_shown(self, task: TaskExecution) -> str:
        """Returns the error."""
        return columns.preformatted(task.error)

    @admin.display(description="traceback")
    def traceback_shown(self, task: TaskExecution) -> str:
        """Returns the traceback of the last attempt that failed."""
        return columns.preformatted(task.traceback)

    @admin.display(description="audit")
    def history(self, task: TaskExecution) -> str:
        """Returns the audit's rows, oldest first."""
        events = TaskEvent.objects.filter(execution_id=task.id).order_by("seq", "id")
        names = ("at", "from_status", "to_status", "attempt", "reason", "actor")
        rows = [[getattr(it, name) or "-" for name in names] for it in events]
        return columns.table(("at", "from", "to", "attempt", "reason", "by"), rows) if rows else "-"

    # --- actions ---------------------------------------------------------------------------------

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Returns whether the user may cancel and retry: with `change_taskexecution`."""
        return Viewer.for_user(request.user).changes_all

    @admin.action(description="Cancel selected tasks", permissions=["operate"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[TaskExecution]) -> None:
        """Cancels them: waiting ones never run, running ones are asked to end."""
        change_all(self, request, queryset, cancel, "cancelled")

    @admin.action(description="Retry selected tasks", permissions=["operate"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[TaskExecution]) -> None:
        """Runs finished ones again, as new tasks."""
        change_all(self, request, queryset, retry, "retried")


def _ids_that_begin_with(term: str) -> tuple[UUID, UUID] | None:
    """Returns the first and last such id; None where the text is no beginning of an id."""
    whole = parse_id(term)
    if whole is not None:
        return whole, whole
    digits = term.replace("-", "").lower()
    if not 8 <= len(digits) <= 32 or set(digits) - set("0123456789abcdef"):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
