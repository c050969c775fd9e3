"""Checks that the project's ASGI application starts the runtime with the server (W012)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Warning
from django.core.handlers.asgi import ASGIHandler
from django.utils.module_loading import import_string

from rail_async_tasks.checks.settings import APP
from rail_async_tasks.conf import read
from rail_async_tasks.servers.lifespan import PROBE
from rail_async_tasks.text import sentence

HINT = (
    "In asgi.py: from rail_async_tasks.asgi import get_asgi_application; application ="
    " get_asgi_application(). Around an application of your own: from rail_async_tasks.asgi import"
    " with_tasks; application = with_tasks(application). A project that is served by WSGI alone may"
    " silence this check."
)


def check_application(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Warns if the application that ASGI_APPLICATION names does not reach ours (W012)."""
    values = read().task_values
    if values.get("enabled") is False or values.get("backend") == "sync":
        return []
    path = getattr(django_settings, "ASGI_APPLICATION", None)
    if not path:
        return [_warning("ASGI_APPLICATION is not set.")]
    try:
        application = import_string(path)
    except Exception as error:  # noqa: BLE001 (a module of the project's)
        return [_warning(f"ASGI_APPLICATION = {path!r} cannot be imported: {sentence(error)}")]
    if _reaches_lifespan(application):
        return []
    if isinstance(application, ASGIHandler):
        return [
            _warning(
                f"ASGI_APPLICATION = {path!r} is Django's own application: it refuses WebSockets,"
                " and tasks that wait in the database start with the server's first request only."
            )
        ]
    return [
        _warning(
            f"ASGI_APPLICATION = {path!r} does not pass ASGI's lifespan to rail_async_tasks: tasks"
            " that wait in the database start with the server's first request only."
        )
    ]


def _warning(message: str) -> CheckMessage:
    return Warning(message, hint=HINT, id=f"{APP}.W012")


def _reaches_lifespan(application: Any) -> bool:
    """Sends a lifespan that starts nothing, neither here nor in applications around ours."""
    reached: list[Any] = []

    async def receive() -> Any:
        raise LookupError("A check sends no message")

    async def send(message: Any) -> None:
        pass

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}, PROBE: reached}
    with contextlib.suppress(Exception):  # it may end, or not know lifespan
        call = application(scope, receive, send)
        try:
            call.send(None)
        finally:
            call.close()
    return bool(reached)
