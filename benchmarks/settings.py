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

_task_settings = json.loads(os.environ.get("BENCHMARK_TASK_SETTINGS", "{}"))
# A framework by itself is named in `BENCHMARK_FRAMEWORK`: our own backend is another then.
_backend = os.environ.get("BENCHMARK_FRAMEWORK", _task_settings.get("backend"))
_redis = os.environ.get("BENCHMARK_REDIS")
INSTALLED_APPS = [
    *{"dramatiq": ["django_dramatiq"], "django_q": ["django_q"]}.get(_backend, []),
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rail_async_tasks",
    "benchmarks.apps.BenchmarksConfig",
]
RAIL_DJANGO_GRAPHQL = {
    "task_settings": {
        "redis_url": _redis,
        **_task_settings,
    },
}
# No page is served here.
SILENCED_SYSTEM_CHECKS = ["rail_async_tasks.W004"]

DRAMATIQ_BROKER = {
    "BROKER": "dramatiq.brokers.redis.RedisBroker", "OPTIONS": {"url": _redis}, "MIDDLEWARE": [],
}  # fmt: skip
DRAMATIQ_AUTODISCOVER_MODULES = ["bare_actors"]
Q_CLUSTER = {
    "name": "default", "workers": 8, "redis": _redis, "timeout": None, "retry": 2**31,
    "scheduler": False, "log_level": "WARNING",
}  # fmt: skip
