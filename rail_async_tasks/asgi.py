"""The ASGI application: Django over HTTP, GraphQL over WebSocket, the runtime by lifespan.

daphne has no lifespan: there the runtime starts and ends with the reactor.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext
from typing import Any

from django.conf import settings

from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.servers.settings_module import get_django_application

logger = get_logger("rail_async_tasks.asgi")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# The path of GraphQL where the project's URLs have none.
DEFAULT_PATH = "/graphql/"
# A key of a lifespan scope. `lifespan` adds itself to the list there, and starts nothing.
PROBE = "rail_async_tasks.probe"


def get_asgi_application() -> Application:
    """Returns the application for `root/asgi.py`. Sets Django up, as Django's own does."""
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
    application = _start_with_requests(application)
    if "daphne.server" in sys.modules:
        # It serves us; or it is only installed, and its reactor never runs.
        from rail_async_tasks.servers.daphne import host_in_reactor

        return host_in_reactor(application)
    return application


def _start_with_requests(application: Application) -> Application:
    """Starts the runtime with the first request of any kind, if the server has not."""
    from rail_async_tasks.servers import first_request

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            await first_request.arrived()
        await application(scope, receive, send)

    return serve


def _only_at_graphql(application: Application) -> Application:
    """Serves sockets at the path of the HTTP view, under any prefix; refuses all others."""

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if _is_graphql(scope):
            await application(scope, receive, send)
        else:
            await _refuse(scope, receive, send)

    return route


def _is_graphql(scope: Scope) -> bool:
    from django.urls import Resolver404, resolve
    from django.utils import translation

    from rail_async_tasks.auth.context import handshake_request
    from rail_async_tasks.graphql.views import TaskGraphQLView

    # The path as Django has it over HTTP: without `root_path` or FORCE_SCRIPT_NAME, which the
    # server or a proxy may have left in.
    path = handshake_request(dict(scope)).path_info
    if path == DEFAULT_PATH:
        return True
    # Below `i18n_patterns` the language is part of the path; over HTTP LocaleMiddleware reads it.
    language = translation.get_language_from_path(path)
    try:
        with translation.override(language) if language else nullcontext():
            view = resolve(path).func
    except Resolver404:
        return False
    kind = getattr(view, "view_class", None)
    return isinstance(kind, type) and issubclass(kind, TaskGraphQLView)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuses a handshake; the server answers it with 403."""
    # The query string stays out of the log: some clients put a token there.
    logger.warning(
        "WebSocket refused: no URL pattern serves GraphQL at %.200r (root_path %.200r,"
        " FORCE_SCRIPT_NAME %r).",
        scope["path"], scope.get("root_path", ""), settings.FORCE_SCRIPT_NAME,
    )  # fmt: skip
    await receive()  # websocket.connect
    await send({"type": "websocket.close"})


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Starts the runtime in the server's loop, and ends it there.

    For a router of the project's own: `ProtocolTypeRouter({..., "lifespan": lifespan})`.
    """
    from rail_async_tasks import servers
    from rail_async_tasks.hosting import server

    if (probe := scope.get(PROBE)) is not None:
        probe.append(lifespan)
        return
    await receive()  # lifespan.startup
    try:
        await server.startup()
        servers.watch()
        server.drain_on_signal()
    except Exception as error:
        logger.exception("The task runtime could not start.")
        await send({"type": "lifespan.startup.failed", "message": _reason(error)})
        return
    await send({"type": "lifespan.startup.complete"})

    await receive()  # lifespan.shutdown
    try:
        await server.shutdown()
    except Exception as error:
        logger.exception("The task runtime did not shut down cleanly.")
        await send({"type": "lifespan.shutdown.failed", "message": _reason(error)})
        return
    await send({"type": "lifespan.shutdown.complete"})


def _reason(error: Exception) -> str:
    return f"rail_async_tasks: {error}" if str(error) else f"rail_async_tasks: {error!r}"
