"""Django's settings for what is measured: the tests' databases and little else."""

from __future__ import annotations

import json
import os

from tests.settings import DATABASES, SECRET_KEY, USE_TZ

__all__ = ["DATABASES", "SECRET_KEY", "USE_TZ"]

# The tests do not wait for the disk; what is measured does, as in a project.
_default = DATABASES["default"]
if _default["ENGINE"] == "django.db.backends.sqlite3":
    _default["OPTIONS"]["init_command"] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rail_async_tasks",
    "benchmarks.apps.BenchmarksConfig",
]
RAIL_DJANGO_GRAPHQL = {
    "task_settings": {
        "redis_url": os.environ.get("BENCHMARK_REDIS"),
        **json.loads(os.environ.get("BENCHMARK_TASK_SETTINGS", "{}")),
    },
}
# No page is served here.
SILENCED_SYSTEM_CHECKS = ["rail_async_tasks.W004"]
