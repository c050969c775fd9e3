"""Findings about settings and the ASGI server: the system checks, packages, a server's answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPException
from importlib.util import find_spec
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from django.core.checks import ERROR, CheckMessage, Tags, run_checks

from rail_async_tasks import checks, conf
from rail_async_tasks.checks.databases import ledger_alias
from rail_async_tasks.cli.doctor.setups import Finding, found
from rail_async_tasks.cli.exits import Stop
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.text import describe, sentence

# Areas of the system checks that are not about settings, by the number of the check.
_AREAS: Final = {
    **dict.fromkeys(("E016", "E023", "E034", "W005", "W006", "W007"), "database"),
    "W018": "migrations",
    "W009": "bus",
    **dict.fromkeys(("E019", "E020", "W008"), "broker"),
    **dict.fromkeys(("W012", "W013"), "asgi"),
}
# Another finding names these with a level and remedy of its own: missing tables.
_TOLD_ELSEWHERE: Final = frozenset({"W018"})
_SERVERS: Final = ("uvicorn", "daphne", "hypercorn", "granian")
_WEBSOCKETS: Final = ("websockets", "wsproto")

# For the answer of a server, in seconds.
SERVER_TIMEOUT: Final = 5.0


def settings() -> Iterator[Finding]:
    """Yields what the settings keep from working."""
    try:
        current = conf.get_settings()
    except ConfigurationError as error:
        yield found("settings-unusable", sentence(error))
        return
    if not current.enabled:
        yield found("tasks-disabled", 'task_settings["enabled"] is False.')
    if not current.track_in_database:
        yield found("rows-in-memory", 'task_settings["track_in_database"] is False.')


def system_checks(*, database: bool) -> Iterator[Finding]:
    """Yields what Django's system checks find about the package, under the checks' ids.

    Args:
        database: also what they find in the database, which must answer.
    """
    messages = list(run_checks(tags=[checks.TAG], include_deployment_checks=True))
    if database:
        messages += run_checks(tags=[Tags.database], databases=[ledger_alias()])
    for message in messages:
        finding = _finding(message)
        if finding is not None and not message.is_silenced():
            yield finding


def _finding(message: CheckMessage) -> Finding | None:
    app, _, number = str(message.id or "").rpartition(".")
    if app != checks.TAG or number in _TOLD_ELSEWHERE:
        return None
    return Finding(
        name=str(message.id),
        area=_AREAS.get(number, "settings"),
        level="error" if message.level >= ERROR else "warning",
        message=str(message.msg),
        remedy=str(message.hint or "`manage.py check` describes it."),
    )


def asgi_packages() -> Iterator[Finding]:
    """Yields what is missing for serving."""
    installed = [name for name in _SERVERS if find_spec(name) is not None]
    if not installed:
        yield found("no-asgi-server", f"None of {', '.join(_SERVERS)} can be imported.")
    elif installed == ["uvicorn"] and not any(find_spec(name) for name in _WEBSOCKETS):
        message = "Subscriptions over WebSocket need websockets or wsproto, which is missing."
        yield found("no-websocket-library", message)


def server(url: str) -> Iterator[Finding]:
    """Yields what a running server says of itself at `tasks/health/ready`, below that URL."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise Stop(f"--url must begin with http:// or https://, not {url!r}.")
    probe = f"{url.rstrip('/')}/tasks/health/ready"
    try:
        with urlopen(probe, timeout=SERVER_TIMEOUT) as answer:  # noqa: S310 (checked above)
            status, body = answer.status, answer.read()
    except HTTPError as error:
        status, body = error.code, error.read()
    except (URLError, HTTPException, OSError) as error:
        yield found("server-unreachable", f"{probe}: {sentence(describe(error))}")
        return
    yield from _answered(probe, status, body)


def _answered(probe: str, status: int, body: bytes) -> Iterator[Finding]:
    try:
        said: dict[str, Any] = dict(json.loads(body))
    except (ValueError, TypeError):
        said = {}
    wrong = {key: text for key, text in dict(said.get("checks", {})).items() if text != "ok"}
    if status != 200 or said.get("status") != "ok":
        reason = ", ".join(f"{key}: {text}" for key, text in wrong.items())
        yield found("server-not-ready", f"{probe} answers {status}. {reason}".rstrip())
        return
    for key, text in dict(said.get("warnings", {})).items():
        yield found("server-not-ready", f"{probe} warns: {key}: {text}")._replace(level="warning")
