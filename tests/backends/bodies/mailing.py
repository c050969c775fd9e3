"""A Django task in a module that no worker imports by itself."""

from __future__ import annotations

import os

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task


@task(takes_context=True, queue_name="mail")
def send(context: object, number: int) -> list[int]:
    """Return the number, and the process that ran it."""
    return [number, context.attempt, os.getpid()]  # type: ignore[attr-defined]
