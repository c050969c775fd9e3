"""The message for an `asgi.py` that names no settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


@contextmanager
def settings_expected() -> Iterator[None]:
    """Around what sets Django up.

    Raises:
        ImproperlyConfigured: no settings are named; the message has the lines for `asgi.py`.
    """
    try:
        yield
    except ImproperlyConfigured as error:
        if settings.configured:
            raise
        raise ImproperlyConfigured(
            "DJANGO_SETTINGS_MODULE is not set. Write in asgi.py, before the application is made:"
            ' import os; os.environ.setdefault("DJANGO_SETTINGS_MODULE", "root.settings").'
        ) from error
