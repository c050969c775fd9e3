"""Django's ASGI application, with words for an `asgi.py` that names no settings."""

from __future__ import annotations

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler


def get_django_application() -> ASGIHandler:
    """Returns Django's application, and sets Django up.

    Raises:
        ImproperlyConfigured: no settings are named; the message has the lines for `asgi.py`.
    """
    try:
        return get_asgi_application()
    except ImproperlyConfigured as error:
        if settings.configured:
            raise
        raise ImproperlyConfigured(
            "DJANGO_SETTINGS_MODULE is not set. Write in asgi.py, before get_asgi_application():"
            ' import os; os.environ.setdefault("DJANGO_SETTINGS_MODULE", "root.settings").'
        ) from error
