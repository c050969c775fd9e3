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

_redis = os.environ.get("BENCHMARK_REDIS")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    *json.loads(os.environ.get("BENCHMARK_APPS", "[]")),
    "rail_async_tasks",
    "benchmarks.apps.BenchmarksConfig",
]
RAIL_DJANGO_GRAPHQL = {
    "task_settings": {
        "redis_url": _redis,
        **json.loads(os.environ.get("BENCHMARK_TASK_SETTINGS", "{}")),
    },
}
# The brokers of the backends that are other task systems, as `docs/backends` sets them up.
CELERY_BROKER_URL = _redis
DRAMATIQ_BROKER = {
    "BROKER": "dramatiq.brokers.redis.RedisBroker",
    "OPTIONS": {"url": _redis},
    "MIDDLEWARE": ["dramatiq.middleware.Retries"],
}
Q_CLUSTER = {
    "name": "benchmarks",
    "redis": _redis,
    "workers": int(os.environ.get("BENCHMARK_SLOTS", "2")),
    "timeout": 60,
    "retry": 120,
    "log_level": "ERROR",
}
# No page is served here.
SILENCED_SYSTEM_CHECKS = ["rail_async_tasks.W004"]
