"""Django's settings of a project with Strawberry and Channels, and without us."""

from __future__ import annotations

from benchmarks.settings import DATABASES, PLAIN_APPS, SECRET_KEY, USE_TZ

__all__ = ["DATABASES", "SECRET_KEY", "USE_TZ"]

INSTALLED_APPS = PLAIN_APPS
ROOT_URLCONF = "benchmarks.plain_web"
ASGI_APPLICATION = "benchmarks.plain_web.application"
ALLOWED_HOSTS = ["127.0.0.1"]
