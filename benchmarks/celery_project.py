"""The Celery app of the benchmarks, as `docs/backends/celery.md` has it."""

from __future__ import annotations

from celery import Celery

app = Celery("benchmarks")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.broker_connection_retry_on_startup = True
