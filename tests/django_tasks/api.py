"""Django's public names for tasks, from wherever this Django has them; and the TASKS setting."""

from __future__ import annotations

from typing import Any, Final

try:
    from django.tasks import (
        TaskContext,
        TaskResultStatus,
        default_task_backend,
        task,
        task_backends,
    )
    from django.tasks.checks import check_tasks
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
    from django.tasks.signals import task_enqueued, task_finished, task_started
except ImportError:
    from django_tasks import (
        TaskContext,
        TaskResultStatus,
        default_task_backend,
        task,
        task_backends,
    )
    from django_tasks.checks import check_tasks
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
    from django_tasks.signals import task_enqueued, task_finished, task_started

__all__ = [
    "TASKS", "InvalidTask", "TaskContext", "TaskResultDoesNotExist", "TaskResultMismatch",
    "TaskResultStatus", "check_tasks", "default_task_backend", "task", "task_backends",
    "task_enqueued", "task_finished", "task_started",
]  # fmt: skip

OURS: Final = "rail_async_tasks.contrib.django_tasks.TaskBackend"
TASKS: Final[dict[str, dict[str, Any]]] = {
    "default": {"BACKEND": OURS, "QUEUES": ["default", "mail"]},
    "patient": {"BACKEND": OURS, "OPTIONS": {"max_retries": 2, "retry_delay": 0.01}},
    "open": {"BACKEND": OURS, "QUEUES": []},
}
