"""The audit, schedules, queues and processes in the admin."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from rail_async_tasks.admin import columns
from rail_async_tasks.admin.read_only import ReadOnlyAdmin
from rail_async_tasks.ids import parse_id
from rail_async_tasks.models import QueueState, TaskEvent, TaskRuntime, TaskSchedule


class TaskEventAdmin(ReadOnlyAdmin[TaskEvent]):
    """Changes of state, newest first."""

    list_display = ("at", "name", "task", "from_status", "to_status", "reason", "actor")
    fields = (
        "at", "name", "task", "from_status", "to_status", "attempt", "seq", "reason", "actor",
        "owner_id", "tenant_id",
    )  # fmt: skip
    search_fields = ("execution_id",)
    search_help_text = "A task's id."

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[TaskEvent], search_term: str
    ) -> tuple[QuerySet[TaskEvent], bool]:
        """Finds the changes of one task, by the index of its id."""
        term = search_term.strip()
        task_id = parse_id(term)
        if not term:
            return queryset, False
        found = queryset.none() if task_id is None else queryset.filter(execution_id=task_id)
        return found, False

    @admin.display(description="task")
    def task(self, event: TaskEvent) -> str:
        """Returns a link to the task, which may be gone."""
        return columns.task_link(self.admin_site, event.execution_id)


class TaskScheduleAdmin(ReadOnlyAdmin[TaskSchedule]):
    """The last tick of each task with `cron`."""

    list_display = ("name", "last_tick")
    fields = ("name", "last_tick")
    ordering = ("name",)


class QueueStateAdmin(ReadOnlyAdmin[QueueState]):
    """Queues that were ever paused."""

    list_display = ("name", "paused_at", "paused_by")
    fields = ("name", "paused_at", "paused_by", "seq")
    ordering = ("name",)


class TaskRuntimeAdmin(ReadOnlyAdmin[TaskRuntime]):
    """Processes that run tasks, the latest first."""

    list_display = ("place", "started_at", "renewed_at", "lapses_at", "dead")
    fields = ("id", "place", "started_at", "renewed_at", "lapses_at", "dead", "names")
    ordering = ("-started_at",)
