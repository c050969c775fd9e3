"""A project's Celery app, as its documentation has one write it."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.backends.settings")

app = Celery("tests.backends")
app.conf.broker_url = os.environ.get("BACKENDS_REDIS", "redis://127.0.0.1:6379/0")
app.conf.broker_connection_retry_on_startup = True
