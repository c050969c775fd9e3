"""Finds the backends of Django's TASKS setting that are ours, in every process at its start."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping

from django.conf import settings
from django.utils.module_loading import import_string

_OURS = "rail_async_tasks.contrib.django_tasks"
# What Django and the package django-tasks bring: imported only when they are used.
_THEIRS = ("django.tasks.", "django_tasks.")


def declare() -> None:
    """Makes our backends, so that their queues and functions are known before any task runs.

    A project that does not name one imports nothing of `django.tasks` here.
    """
    setting = getattr(settings, "TASKS", None)
    if not isinstance(setting, Mapping):
        return
    for alias, params in setting.items():
        path = params.get("BACKEND") if isinstance(params, Mapping) else None
        if not isinstance(path, str) or path.startswith(_THEIRS):
            continue
        # One that can't be imported, or made, is for Django's checks to report.
        with contextlib.suppress(Exception):
            backend = import_string(path)
            ours = sys.modules.get(_OURS)  # a subclass of the project's has imported it
            if ours is not None and issubclass(backend, ours.TaskBackend):
                ours.library.task_backends[alias]
