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
_redis = os.environ.get("BENCHMARK_REDIS")
_backend_apps = {"dramatiq": ["django_dramatiq"], "django_q": ["django_q"]}

# Those of a project with Strawberry and Channels, and without us.
PLAIN_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "channels",
    "strawberry_django",
]
INSTALLED_APPS = [
    *_backend_apps.get(_task_settings.get("backend"), []),
    *PLAIN_APPS,
    "rail_async_tasks",
    "benchmarks.apps.BenchmarksConfig",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "rail_async_tasks.urls"
ALLOWED_HOSTS = ["127.0.0.1"]
RAIL_DJANGO_GRAPHQL = {"task_settings": {"redis_url": _redis, **_task_settings}}
# The brokers of the backends that are other task systems, as `docs/backends` sets them up.
CELERY_BROKER_URL = _redis
DRAMATIQ_BROKER = {
    "BROKER": "dramatiq.brokers.redis.RedisBroker", "OPTIONS": {"url": _redis}, "MIDDLEWARE": [],
}  # fmt: skip
Q_CLUSTER = {
    "name": "benchmarks", "workers": int(os.environ.get("BENCHMARK_SLOTS", "8")), "redis": _redis,
    "timeout": 60, "retry": 120, "log_level": "ERROR",
}  # fmt: skip
# No page is served here.
SILENCED_SYSTEM_CHECKS = ["rail_async_tasks.W004"]
