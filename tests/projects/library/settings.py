"""Settings of a project that tests its tasks with the tools of the package."""

from __future__ import annotations

import json
import os
from typing import Any

SECRET_KEY = "only for tests, and long enough to sign with"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.projects.library.urls"
STATIC_URL = "/static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES: dict[str, Any] = {
    "default": json.loads(
        os.environ.get(
            "LIBRARY_DATABASE",
            '{"ENGINE": "django.db.backends.sqlite3", "NAME": "no-such-place/db"}',
        )
    )
}

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "channels",
    "strawberry_django",
    "rail_async_tasks",
    "tests.projects.library",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]

RAIL_DJANGO_GRAPHQL: dict[str, Any] = {
    "task_settings": {
        "retry_delay": 10,
        "encryption_keys": ["cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="],
        "lease_seconds": 3,
        "drain_seconds": 1,
        # Nothing listens there: no tool may need it.
        "redis_url": "redis://127.0.0.1:1/0",
        "bus": "redis",
        **json.loads(os.environ.get("LIBRARY_TASK_SETTINGS", "{}")),
    },
    "schema_settings": {"mutation_extensions": ["tests.projects.library.tasks.LibraryMutations"]},
}
