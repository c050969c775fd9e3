"""The Django app: finds every app's tasks and registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig


class RailAsyncTasksConfig(AppConfig):
    name = "rail_async_tasks"
    verbose_name = "Async tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from rail_async_tasks import checks
        from rail_async_tasks.definition import autodiscover

        checks.register_checks()
        autodiscover()
