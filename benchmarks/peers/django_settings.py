"""Django's settings for the peers that are Django apps: PEER_APPS and the sample's database."""

from __future__ import annotations

import json
import os
from urllib.parse import unquote, urlsplit

_url = urlsplit(os.environ["TEST_DATABASE_URL"])

SECRET_KEY = "only for benchmarks"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    *json.loads(os.environ.get("PEER_APPS", "[]")),
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _url.hostname,
        "PORT": _url.port,
        "USER": unquote(_url.username or ""),
        "PASSWORD": unquote(_url.password or ""),
        "NAME": _url.path.removeprefix("/"),
        # Tuned: a connection per thread that lasts, as Django's documentation advises.
        "CONN_MAX_AGE": None,
    }
}
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
CELERY_RESULT_BACKEND = "django-db"
Q_CLUSTER = json.loads(os.environ.get("PEER_Q_CLUSTER", "{}"))
LOGGING_CONFIG = None
