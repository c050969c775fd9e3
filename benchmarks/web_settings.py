"""Django's settings of the web servers that are measured: those of the others, and a page."""

from __future__ import annotations

import os

from benchmarks.settings import (
    DATABASES,
    INSTALLED_APPS,
    SECRET_KEY,
    SILENCED_SYSTEM_CHECKS,
    USE_TZ,
)
from benchmarks.settings import RAIL_DJANGO_GRAPHQL as COMMON

__all__ = [
    "DATABASES",
    "INSTALLED_APPS",
    "SECRET_KEY",
    "SILENCED_SYSTEM_CHECKS",
    "USE_TZ",
]

ROOT_URLCONF = "benchmarks.web"
ALLOWED_HOSTS = ["127.0.0.1"]
# None, or those of a login.
MIDDLEWARE: list[str] = {
    "none": [],
    "session": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
}[os.environ.get("BENCHMARK_MIDDLEWARE", "none")]
# One client sends all requests, and more of them than one may have waiting.
RAIL_DJANGO_GRAPHQL = {
    "task_settings": {
        "max_pending": None,
        "limits": {"anonymous_pending_per_address": None},
        **COMMON["task_settings"],
    },
}
LOGGING = {"version": 1, "disable_existing_loggers": False}
