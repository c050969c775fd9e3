"""Settings of the test suite, and of the servers that tests start as processes of their own.

`TEST_DATABASE` is `sqlite` (the default), `postgres` or `mariadb`; `TEST_DATABASE_URL` says where,
as `sqlite:////absolute/path`, `postgresql://user:password@host:port/name` or `mysql://…` likewise.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from tests.no_gdal import spare_the_search

spare_the_search()


def _sqlite(path: str, test_path: str | None = None) -> dict[str, Any]:
    """DATABASES' entry for a file that never waits for the disk: no test cuts the power."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        # A file, not memory: the threads of a runtime open connections of their own.
        "TEST": {"NAME": test_path or path},
        "OPTIONS": {
            "timeout": 30,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF",
        },
    }


def _remove(path: Path) -> None:
    for suffix in ("", "-shm", "-wal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _take_pymysql() -> None:
    """Has Django find PyMySQL where it looks for mysqlclient, which must be compiled."""
    import pymysql

    pymysql.install_as_MySQLdb()


def database(kind: str, url: str | None) -> dict[str, Any]:
    """DATABASES' entry for the database at this URL; without one, a SQLite file of this process."""
    if kind == "sqlite" and not url:
        # No file until something connects: tools that only read these settings leave nothing.
        path = Path(tempfile.gettempdir(), f"rail-async-tasks-{os.getpid()}.sqlite3")
        atexit.register(_remove, path)
        return _sqlite(str(path), str(path.with_name(f"test-{path.name}")))
    parts = urlsplit(url or "")
    if kind == "sqlite" and parts.scheme == "sqlite":
        return _sqlite(unquote(parts.path)[1:])
    engines = {"postgres": ("postgresql", "postgresql"), "mariadb": ("mysql", "mysql")}
    scheme, engine = engines.get(kind, (None, None))
    if scheme is not None and parts.scheme == scheme:
        if engine == "mysql":
            _take_pymysql()
        return {
            "ENGINE": f"django.db.backends.{engine}",
            "NAME": unquote(parts.path).lstrip("/"),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": parts.hostname or "",
            "PORT": parts.port or "",
        }
    raise ImproperlyConfigured(
        f"TEST_DATABASE={kind} does not go with TEST_DATABASE_URL={url!r}: "
        "give sqlite:////path for sqlite, postgresql://user@host:port/name for postgres, "
        "mysql://user@host:port/name for mariadb."
    )


DATABASES = {
    "default": database(
        os.environ.get("TEST_DATABASE", "sqlite"), os.environ.get("TEST_DATABASE_URL")
    )
}

SECRET_KEY = "only for tests, and long enough to sign with"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
DEBUG = False
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# The users of tests log in often; a real hasher would be most of the suite's time.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

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
    "tests.projects.accounts",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "/static/"
ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = "tests.asgi.application"
