"""Settings of the processes that the backends' tests start: a web server and workers.

`BACKENDS_APPS` names apps to install, separated by commas; `BACKENDS_REDIS` is the broker's URL;
`BACKENDS_SPANS` a folder for the spans of each process.
"""

from __future__ import annotations

import os

from tests.projects.acceptance.settings import *  # noqa: F403
from tests.projects.acceptance.settings import INSTALLED_APPS, RAIL_DJANGO_GRAPHQL

REDIS_URL = os.environ.get("BACKENDS_REDIS", "redis://127.0.0.1:6379/0")

INSTALLED_APPS = [
    *filter(None, os.environ.get("BACKENDS_APPS", "").split(",")),
    *INSTALLED_APPS,
    "tests.backends.bodies",
]
RAIL_DJANGO_GRAPHQL["schema_settings"]["mutation_extensions"] = [
    "tests.backends.bodies.tasks.Mutations"
]
# Django's own tasks, on Django 6 or with the package django-tasks.
TASKS = {
    "default": {
        "BACKEND": "rail_async_tasks.contrib.django_tasks.TaskBackend",
        "QUEUES": ["default", "mail"],
    }
}

DRAMATIQ_BROKER = {
    "BROKER": "dramatiq.brokers.redis.RedisBroker",
    "OPTIONS": {"url": REDIS_URL},
    "MIDDLEWARE": [],
}
# A cluster of theirs would take workers * workers out of its broker.
Q_CLUSTER = {
    "queue_limit": 8, "scheduler": False,
    "name": "default", "workers": int(os.environ.get("BACKENDS_Q_WORKERS", "4")),
    "redis": REDIS_URL, "timeout": None, "retry": 2**31, "poll": 0.1, "log_level": "WARNING",
}  # fmt: skip

if folder := os.environ.get("BACKENDS_SPANS"):
    from tests.support.span_files import export_to

    export_to(folder)
    # A span for each resolver: what the project itself traces.
    RAIL_DJANGO_GRAPHQL["schema_settings"]["extensions"] = [
        "strawberry.extensions.tracing.OpenTelemetryExtension"
    ]
