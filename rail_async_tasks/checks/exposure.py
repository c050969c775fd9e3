"""Checks of what a deployment shows to the internet (W020 to W028, with `check --deploy`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Warning

from rail_async_tasks import conf
from rail_async_tasks.checks.settings import APP
from rail_async_tasks.graphql.schema import console_is_on, introspection_is_on
from rail_async_tasks.text import counted

# Fewer different characters than this are a word or a pattern, not a random key.
_MIN_DISTINCT: Final = 12
# RFC 7518, section 3.2: a key is at least as long as the hash, in bytes.
_HASH_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}


def check_exposure(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Warns of each setting that is open to strangers (W020 to W028)."""
    # The right ones, whatever else is wrong: one mistake hides no other.
    tasks = conf.TaskSettings(**conf.read().task_values)
    return [
        Warning(message, hint=hint, id=f"{APP}.{number}")
        for number, look in _LOOKS.items()
        for message, hint in look(tasks)
    ]


Found = Iterator[tuple[str, str]]


def _anonymous(tasks: conf.TaskSettings) -> Found:
    if tasks.anonymous_access != "deny":
        bounded = tasks.limits.anonymous_pending_per_address is not None
        how_many = (
            ""
            if bounded
            else ', as many as the queue takes: limits["anonymous_pending_per_address"] is None'
        )
        yield (
            (
                'task_settings["anonymous_access"] is "by_id": a caller without a credential may'
                f" start tasks{how_many}."
            ),
            'Set it to "deny". If strangers are meant to start tasks, silence this check.',
        )


def _rate(tasks: conf.TaskSettings) -> Found:
    if tasks.rate_limit is None:
        unbounded = tasks.max_pending_per_owner is None and tasks.max_pending is not None
        queue = ', and fill the queue, as "max_pending_per_owner" is None too' if unbounded else ""
        yield (
            f'task_settings["rate_limit"] is None: one user may start any number of tasks{queue}.',
            (
                'Set the starts that one owner needs, for example "100/m", and in'
                ' "max_pending_per_owner" how many of them may wait.'
            ),
        )


def _debug(tasks: conf.TaskSettings) -> Found:
    if settings.DEBUG:
        yield (
            "DEBUG is True: GraphQL answers show the text of every exception.",
            "Set DEBUG = False.",
        )


def _key(tasks: conf.TaskSettings) -> Found:
    if tasks.jwt is None or tasks.jwt.algorithms[0] not in _HASH_BYTES:
        return
    needed = max(_HASH_BYTES[name] for name in tasks.jwt.algorithms)
    keys = {"key": tasks.jwt.key} if tasks.jwt.key is not None else dict(tasks.jwt.keys or {})
    for name, key in keys.items():
        reason = _weakness(key.encode() if isinstance(key, str) else key, needed)
        if reason is not None:
            place = "key" if tasks.jwt.key is not None else f'keys"]["{name}'
            yield (
                (
                    f'task_settings["jwt"]["{place}"] {reason}: an attacker who finds it'
                    " signs tokens for every user."
                ),
                (
                    f"Make one of its own with secrets.token_urlsafe({max(needed, 48)}), kept"
                    " outside of the code."
                ),
            )


def _weakness(key: bytes, needed: int) -> str | None:
    """Returns what is wrong with a secret; no part of it."""
    if len(key) < needed:
        return f"has {counted(len(key), 'byte')}, fewer than the {needed} of its hash"
    if len(set(key)) < _MIN_DISTINCT:
        return f"has fewer than {_MIN_DISTINCT} different characters"
    if key == str(settings.SECRET_KEY).encode():
        return "is SECRET_KEY"
    if key.startswith(b"django-insecure-"):
        return "begins with django-insecure-"
    return None


def _bus(tasks: conf.TaskSettings) -> Found:
    workers = os.environ.get("WEB_CONCURRENCY", "")
    if tasks.bus == "memory" and workers != "1":
        workers_here = f"has {workers}" if workers.isdigit() else "may have several"
        yield (
            (
                f'task_settings["bus"] is "memory", and the server {workers_here} worker processes:'
                " subscriptions hear of other processes' tasks only by reading again, every 2 s."
            ),
            (
                'Set "redis_url". With one worker process set WEB_CONCURRENCY=1, or silence this'
                " check."
            ),
        )


def _introspection(tasks: conf.TaskSettings) -> Found:
    if introspection_is_on():
        yield (
            "Introspection is on: anyone may read the whole GraphQL schema.",
            'Set task_settings["introspection"] to False.',
        )


def _console(tasks: conf.TaskSettings) -> Found:
    if console_is_on():
        yield (
            "The GraphQL console is on: a browser at /graphql/ gets a tool to send operations.",
            'Set task_settings["console"] to False.',
        )


def _proxy(tasks: conf.TaskSettings) -> Found:
    if settings.SECURE_PROXY_SSL_HEADER is None:
        yield (
            (
                "SECURE_PROXY_SSL_HEADER is not set: behind a proxy that ends TLS every request"
                " looks like plain HTTP, and pages of https:// fail the CSRF check of REST."
            ),
            (
                'Set it to the header that your proxy always sets, ("HTTP_X_FORWARDED_PROTO",'
                ' "https") say. Where the server itself speaks TLS, silence this check.'
            ),
        )


def _address(tasks: conf.TaskSettings) -> Found:
    behind_proxy = settings.SECURE_PROXY_SSL_HEADER is not None
    if behind_proxy and not tasks.trusted_proxies and tasks.anonymous_access != "deny":
        yield (
            (
                'SECURE_PROXY_SSL_HEADER names a proxy, and task_settings["trusted_proxies"] is'
                " empty: anonymous callers may all have the proxy's address, and share its limits."
            ),
            (
                'Set "trusted_proxies" to the addresses of your proxies. Where the server itself'
                " takes addresses from them (uvicorn --forwarded-allow-ips), silence this check."
            ),
        )


_LOOKS: Final[dict[str, Callable[[conf.TaskSettings], Found]]] = {
    "W020": _anonymous,
    "W021": _rate,
    "W022": _debug,
    "W023": _key,
    "W024": _bus,
    "W025": _introspection,
    "W026": _console,
    "W027": _proxy,
    "W028": _address,
}
