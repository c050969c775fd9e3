"""Settings of the example project: an ordinary Django project plus one block for the tasks."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent
# Everything the demo writes: its database and the files that tasks produce.
DEMO_DIR = Path(os.environ.get("DEMO_DIR", BASE_DIR / ".demo"))

# For a machine of your own, as the rest of this file: the demo listens on 127.0.0.1 alone.
DEBUG = True
SECRET_KEY = "example-project-not-a-secret"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

# The page at `/` logs every visitor in as the user `demo`. Never do that outside a demo.
DEMO_AUTO_LOGIN = True

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "strawberry_django",
    "rail_async_tasks",
    "example_project.shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.root.urls"
ASGI_APPLICATION = "example_project.root.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def _database(url: str) -> dict[str, object]:
    """SQLite in the demo's directory, or `postgres://user:password@host:port/name`."""
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DEMO_DIR / "demo.sqlite3",
            "OPTIONS": {
                # Readers and the one writer do not block each other, and a writer waits for its
                # turn: what any Django project with more than one thread wants of SQLite.
                "transaction_mode": "IMMEDIATE",
                "timeout": 30,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
    }


DATABASES = {"default": _database(os.environ.get("DEMO_DATABASE_URL", ""))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

RAIL_DJANGO_GRAPHQL = {
    "task_settings": {
        # The ticks of "100 at once" go through a queue of their own, 20 at a time, so that they
        # never hold up anything else.
        "queues": {"bulk": {"priority": -20, "concurrency": 20}},
        # Ctrl-C ends the demo soon; what was running goes on at the next start.
        "drain_seconds": 2,
        # "100 at once" is one request with a hundred mutations, more than the default allows.
        "limits": {
            "starts_per_request": 100,
            "aliases": 200,
            "root_fields": 200,
            "tokens": 10_000,
        },
    },
    "schema_settings": {
        "query_extensions": ["example_project.shop.schema.ShopQuery"],
        "mutation_extensions": ["example_project.shop.schema.TaskMutations"],
    },
}

# `make demo-distributed` sets this; then tasks run in workers (`manage.py task_worker`) instead of
# in the web process. The first two lines are all that a project needs for that.
REDIS_URL = os.environ.get("DEMO_REDIS_URL")
if REDIS_URL:
    RAIL_DJANGO_GRAPHQL["task_settings"] |= {
        "backend": "arq",
        "redis_url": REDIS_URL,
        # Each change of a task is noted, with the process behind it: the page shows them.
        "audit_enabled": True,
        # What a killed worker was running goes on elsewhere soon: it is killed for fun here.
        "lease_seconds": 5,
    }

STATIC_URL = "/static/"
MEDIA_URL = "/media/"
MEDIA_ROOT = DEMO_DIR / "media"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
