"""Checks of Django settings that are meant for a project's pages (W013, W014)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured
from django.middleware.security import SecurityMiddleware
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from rail_async_tasks import conf
from rail_async_tasks.checks.settings import APP


def check_login(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Warn where pages ask for a login and `anonymous_access` is not set (W014)."""
    if "anonymous_access" in conf.read().task_values or not _has(LoginRequiredMiddleware):
        return []
    message = (
        "LoginRequiredMiddleware is for pages. GraphQL, REST and WebSocket go by"
        ' task_settings["anonymous_access"], which is "by_id": a caller without a credential may'
        " start tasks."
    )
    hint = (
        'Set "anonymous_access" to "deny", which refuses such callers over every transport; or to'
        ' "by_id", if they may. Fields of your own in the schema need permission classes.'
    )
    return [Warning(message, hint=hint, id=f"{APP}.W014")]


def check_probes(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Warn where probes are redirected to HTTPS (W013). Runs with `check --deploy`."""
    if not (settings.SECURE_SSL_REDIRECT and _has(SecurityMiddleware)):
        return []
    exempt = [re.compile(pattern) for pattern in settings.SECURE_REDIRECT_EXEMPT]
    redirected = [
        path for path in _probes() if not any(it.search(path.lstrip("/")) for it in exempt)
    ]
    if not redirected:
        return []
    message = (
        f"SECURE_SSL_REDIRECT redirects {' and '.join(redirected)}: a probe that speaks plain HTTP,"
        " as kubelet's does, never reads the answer."
    )
    hint = (
        r'Add r"tasks/health/" to SECURE_REDIRECT_EXEMPT. Or have the probe speak HTTPS, or send'
        f' the header of SECURE_PROXY_SSL_HEADER, and add "{APP}.W013" to SILENCED_SYSTEM_CHECKS.'
    )
    return [Warning(message, hint=hint, id=f"{APP}.W013")]


def _probes() -> Iterator[str]:
    """Yield the paths of the probes, if the project's URLs have them."""
    for namespace in ("rail_async_tasks", "rail_async_tasks_health"):  # whole, or the part
        # Django's own checks report broken URLs.
        with suppress(NoReverseMatch, ImportError, ImproperlyConfigured):
            yield from (reverse(f"{namespace}:live"), reverse(f"{namespace}:ready"))


def _has(kind: type) -> bool:
    """Return whether MIDDLEWARE has this class or a subclass."""
    for path in settings.MIDDLEWARE:
        with suppress(ImportError):
            found = import_string(path)
            if isinstance(found, type) and issubclass(found, kind):
                return True
    return False
