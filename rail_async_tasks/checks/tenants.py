"""Checks where a project with django-tenants has our tables (E034)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error

from rail_async_tasks.checks.settings import APP

HINT = (
    'Move "rail_async_tasks" from TENANT_APPS to SHARED_APPS (with TENANT_TYPES: to the apps of the'
    " public schema alone), then run migrate_schemas --shared."
)


def check_tenants(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Reports tables outside of the public schema, or none in it (E034)."""
    if not apps.is_installed("django_tenants"):
        return []
    return [
        Error(message, hint=HINT, id=f"{APP}.E034")
        for place, is_public, names in _lists()
        if (message := _problem(place, is_public, names)) is not None
    ]


def _problem(place: str, is_public: bool, names: Iterable[str]) -> str | None:
    is_in = any(name == APP or name.startswith(f"{APP}.") for name in names)
    if is_in and not is_public:
        return (
            f"{place} has rail_async_tasks: what is enqueued in a tenant's schema goes into the"
            " tables there, and the runtime looks into those of the public schema only."
        )
    if is_public and not is_in:
        return f"{place} lacks rail_async_tasks: its tables belong into the public schema."
    return None


def _lists() -> Iterator[tuple[str, bool, Iterable[str]]]:
    """Yields the settings that list apps: the place, whether it is the public schema's, the apps.

    django-tenants' two settings; or one with a list per type of tenants.
    """
    if not getattr(django_settings, "HAS_MULTI_TYPE_TENANTS", False):
        yield "SHARED_APPS", True, getattr(django_settings, "SHARED_APPS", ())
        yield "TENANT_APPS", False, getattr(django_settings, "TENANT_APPS", ())
        return
    public = getattr(django_settings, "PUBLIC_SCHEMA_NAME", "public")
    for name, options in getattr(django_settings, "TENANT_TYPES", {}).items():
        yield f'TENANT_TYPES["{name}"]["APPS"]', name == public, options.get("APPS", ())
