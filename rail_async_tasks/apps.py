"""The Django app: finds every app's tasks and registers the system checks."""

from __future__ import annotations

import contextlib
from itertools import chain

from django.apps import AppConfig
from django.utils.module_loading import import_string


class RailAsyncTasksConfig(AppConfig):
    name = "rail_async_tasks"
    verbose_name = "Async tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from rail_async_tasks import backends, checks, observability, servers, workers
        from rail_async_tasks.auth import signals
        from rail_async_tasks.conf import read
        from rail_async_tasks.contrib import tasks_setting
        from rail_async_tasks.dashboard import bulk_tasks  # noqa: F401 - declares its tasks
        from rail_async_tasks.hosting.interpreter import drain_at_the_end
        from rail_async_tasks.registry import autodiscover
        from rail_async_tasks.servers import first_request

        checks.register_checks()
        observability.register()
        signals.connect()
        drain_at_the_end()
        tasks_setting.declare()
        autodiscover()
        parsed = read()
        own = parsed.schema_values.get("schema")
        for path in chain(*parsed.extensions.values(), [own] if own else []):
            # Their modules declare tasks too. One that can't be imported is the checks' to report.
            with contextlib.suppress(Exception):
                import_string(path)
        backends.declare()
        workers.declare()
        servers.watch()
        first_request.expect()
