"""The ASGI application: Django over HTTP, GraphQL over WebSocket, the runtime by lifespan.

daphne has no lifespan: there the runtime starts and ends with the reactor.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.core.asgi import get_asgi_application as get_django_application

from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.asgi")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Where GraphQL is found when the project's URLs do not say it.
DEFAULT_PATH = "/graphql/"


def get_asgi_application() -> Application:
    """The application for `root/asgi.py`. Sets Django up, as Django's own function does."""
    django_application = get_django_application()

    # These need apps that are loaded.
    from channels.auth import AuthMiddlewareStack  # type: ignore[import-untyped]
    from channels.routing import ProtocolTypeRouter  # type: ignore[import-untyped]

    from rail_async_tasks.graphql.consumers import TaskGraphQLConsumer

    application: Application = ProtocolTypeRouter(
        {
            "http": django_application,
            "websocket": _only_at_graphql(AuthMiddlewareStack(TaskGraphQLConsumer.as_asgi())),
            "lifespan": lifespan,
        }
    )
    if "daphne.server" in sys.modules:
        # It serves us, or is merely installed: then its reactor never runs.
        from rail_async_tasks.servers.daphne import host_in_reactor

        return host_in_reactor(application)
    return application


def _only_at_graphql(application: Application) -> Application:
    """Serve sockets where the HTTP view is mounted, under whichever prefix; refuse all others."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if _is_graphql(scope):
            await application(scope, receive, send)
        else:
            await _refuse(receive, send)

    return route


def _is_graphql(scope: Scope) -> bool:
    from django.urls import Resolver404, resolve

    from rail_async_tasks.graphql.views import TaskGraphQLView

    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    if path == DEFAULT_PATH:
        return True
    try:
        view = resolve(path).func
    except Resolver404:
        return False
    return getattr(view, "view_class", None) is TaskGraphQLView


async def _refuse(receive: Receive, send: Send) -> None:
    """Turn a handshake down; the server answers it with 403."""
    await receive()  # websocket.connect
    await send({"type": "websocket.close"})


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Start the runtime in the server's loop, and end it there."""
    from rail_async_tasks.runtime import host

    await receive()  # lifespan.startup
    try:
        await host.startup()
        host.drain_on_signal()
    except Exception as error:
        logger.exception("The task runtime could not start.")
        await send({"type": "lifespan.startup.failed", "message": _reason(error)})
        return
    await send({"type": "lifespan.startup.complete"})

    await receive()  # lifespan.shutdown
    try:
        await host.shutdown()
    except Exception as error:
        logger.exception("The task runtime did not shut down cleanly.")
        await send({"type": "lifespan.shutdown.failed", "message": _reason(error)})
        return
    await send({"type": "lifespan.shutdown.complete"})


def _reason(error: Exception) -> str:
    return f"rail_async_tasks: {error}" if str(error) else f"rail_async_tasks: {error!r}"
