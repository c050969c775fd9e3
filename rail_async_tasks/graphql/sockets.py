"""Routes WebSockets: GraphQL at the path of its view, the project's own routes, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from channels.auth import AuthMiddlewareStack  # type: ignore[import-untyped]
from channels.routing import URLRouter  # type: ignore[import-untyped]
from django.conf import settings
from django.urls import Resolver404, URLPattern
from django.urls.resolvers import RoutePattern

from rail_async_tasks.auth.context import handshake_request
from rail_async_tasks.graphql.handshake import handshake_problem
from rail_async_tasks.graphql.routes import view_at
from rail_async_tasks.graphql.session import with_session
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.servers.connections import ended_by_drain
from rail_async_tasks.servers.protocol import Application, Message, Receive, Scope, Send

logger = get_logger("rail_async_tasks.asgi")

# The path of GraphQL where the project's URLs have none.
DEFAULT_PATH: Final = "/graphql/"


def socket_router(routes: Sequence[Any]) -> Application:
    """Returns the application for WebSockets.

    GraphQL comes before a route of the project's that only matches its path, such as a
    `re_path("")` for all paths. It comes after a `path()` that is for that very path.

    Raises:
        TypeError: something in `routes` is no route to a consumer.
    """
    _check_routes(routes)
    theirs = _own_routes(routes) if routes else None
    exact = {_exact_path(route) for route in routes}

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        # The path as Django has it over HTTP: without `root_path` or FORCE_SCRIPT_NAME, which the
        # server or a proxy may have left in.
        path = handshake_request(dict(scope)).path_info
        if path not in exact and _is_graphql(path):
            await _graphql()(scope, receive, send)
        elif theirs is None:
            await _refuse(scope, receive, send)
        else:
            # With `path_remaining` a router neither looks at `root_path` nor raises ValueError.
            await theirs({**scope, "path_remaining": path}, receive, send)

    return route


@cache
def _graphql() -> Application:
    # The first WebSocket pays for Channels and its handlers, and not each command that imports the
    # application.
    from rail_async_tasks.graphql.consumers import TaskGraphQLConsumer

    return with_session(TaskGraphQLConsumer.as_asgi())


def _is_graphql(path: str) -> bool:
    return path == DEFAULT_PATH or view_at(path) is not None


# --- routes of the project's own -----------------------------------------------------------------


def _own_routes(routes: Sequence[Any]) -> Application:
    """Returns the routes with what Channels' documentation puts around them: origin and user."""
    router = ended_by_drain(AuthMiddlewareStack(URLRouter(list(routes))))

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        problem = handshake_problem(handshake_request(dict(scope)))
        if problem is not None:
            logger.warning("WebSocket refused: %.500s", problem)
            await _close(receive, send)
            return
        answered = False

        async def heard(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await router(scope, receive, heard)
        except Resolver404:
            if answered:  # a consumer has raised it
                raise
            await _refuse(scope, receive, send)

    return serve


def _check_routes(routes: Sequence[Any]) -> None:
    place = "get_asgi_application(websocket=…)"
    if not isinstance(routes, list | tuple):
        raise TypeError(
            f'{place}: must be a list of routes such as path("chat/", ChatConsumer.as_asgi()), not'
            f" {routes!r:.100}."
        )
    for route in routes:
        if not isinstance(route, URLPattern):
            raise TypeError(
                f"{place}: {route!r:.100} is no route. Write path() or re_path() with a consumer's"
                " as_asgi(); for routes below a prefix, path() with another URLRouter in place of"
                " include()."
            )
        consumer = route.callback
        if isinstance(consumer, type) and hasattr(consumer, "as_asgi"):
            raise TypeError(
                f"{place}: {route.pattern} has the class {consumer.__name__}; write"
                f" {consumer.__name__}.as_asgi()."
            )
        if hasattr(consumer, "view_class"):
            raise TypeError(
                f"{place}: {route.pattern} has a view, {consumer.__name__}; a WebSocket needs a"
                " consumer. Views belong into urls.py."
            )


def _exact_path(route: Any) -> str | None:
    """Returns the one path that a `path()` without parameters is for."""
    pattern = getattr(route, "pattern", None)
    if not isinstance(pattern, RoutePattern) or pattern.converters or not str(pattern):
        return None
    return f"/{str(pattern).lstrip('/')}"


# --- refusals ------------------------------------------------------------------------------------


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuses a handshake at a path that nothing serves."""
    # The query string stays out of the log: some clients put a token there.
    logger.warning(
        "WebSocket refused: no URL pattern serves GraphQL at %.200r (root_path %.200r,"
        " FORCE_SCRIPT_NAME %r).",
        scope["path"], scope.get("root_path", ""), settings.FORCE_SCRIPT_NAME,
    )  # fmt: skip
    await _close(receive, send)


async def _close(receive: Receive, send: Send) -> None:
    """Refuses a handshake; the server answers it with 403."""
    await receive()  # websocket.connect
    await send({"type": "websocket.close"})
