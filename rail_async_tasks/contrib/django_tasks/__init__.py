"""Django's own tasks (`django.tasks`) on our runtime: see docs/from-django-tasks.md."""

from __future__ import annotations

from rail_async_tasks.contrib.django_tasks.backend import TaskBackend
from rail_async_tasks.contrib.django_tasks.context import TaskContext, current_task
from rail_async_tasks.contrib.django_tasks.options import Task
from rail_async_tasks.contrib.django_tasks.owner import owned_by
from rail_async_tasks.contrib.django_tasks.results import TaskResult

__all__ = ["Task", "TaskBackend", "TaskContext", "TaskResult", "current_task", "owned_by"]
