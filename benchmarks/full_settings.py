"""The same project with us."""

from __future__ import annotations

import json
import os

from benchmarks import plain_settings
from benchmarks.plain_settings import ALLOWED_HOSTS, DATABASES, SECRET_KEY, USE_TZ

__all__ = ["ALLOWED_HOSTS", "DATABASES", "SECRET_KEY", "USE_TZ"]

INSTALLED_APPS = [*plain_settings.INSTALLED_APPS, "rail_async_tasks"]
ROOT_URLCONF = "rail_async_tasks.urls.graphql"
ASGI_APPLICATION = "benchmarks.full_web.application"
RAIL_DJANGO_GRAPHQL = {
    "task_settings": {
        "redis_url": os.environ.get("BENCHMARK_REDIS"),
        **json.loads(os.environ.get("BENCHMARK_TASK_SETTINGS", "{}")),
    }
}
