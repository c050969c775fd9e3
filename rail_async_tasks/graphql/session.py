"""The session and the user of a WebSocket, from the cookies of its handshake.

As Channels' `AuthMiddlewareStack` does, which every frame that is sent would pass. Without the
session's cookie no thread is asked.
"""

from __future__ import annotations

from importlib import import_module

from channels.auth import get_user  # type: ignore[import-untyped]
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import parse_cookie

from rail_async_tasks.servers.protocol import Application, Receive, Scope, Send


def with_session(application: Application) -> Application:
    """Wraps an application for WebSockets: its scope has `cookies`, `session` and `user`.

    What a middleware around it has set stays.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        cookies = _cookies(scope)
        store = import_module(settings.SESSION_ENGINE).SessionStore
        key = cookies.get(settings.SESSION_COOKIE_NAME)
        whole = {"cookies": cookies, "session": store(key), **scope}
        if "user" not in whole:
            has_none = key is None and "session" not in scope
            whole["user"] = AnonymousUser() if has_none else await get_user(whole)
        await application(whole, receive, send)

    return serve


def _cookies(scope: Scope) -> dict[str, str]:
    for name, value in scope["headers"]:
        if name == b"cookie":
            return parse_cookie(value.decode("latin1"))
    return {}
