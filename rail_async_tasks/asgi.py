"""The ASGI application: Django over HTTP, GraphQL over WebSocket, the runtime by lifespan.

daphne has no lifespan: there the runtime starts and ends with the reactor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import django
from django.apps import apps
from django.core.asgi import get_asgi_application as get_django_application
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler

from rail_async_tasks.servers import lifespan as lifespans
from rail_async_tasks.servers.connections import ended_by_drain
from rail_async_tasks.servers.protocol import Application, Receive, Scope, Send
from rail_async_tasks.servers.settings_module import settings_expected

__all__ = ["get_asgi_application", "lifespan", "with_tasks"]

# An application that hosts the runtime has this attribute, and is true.
_HOSTS: Final = "hosts_tasks"


def get_asgi_application(
    *, websocket: Sequence[Any] = (), http: Application | None = None
) -> Application:
    """Returns the application for `root/asgi.py`. Sets Django up, as Django's own does.

    Args:
        websocket: the project's own WebSocket routes, `path()` or `re_path()` with consumers, as
            Channels' `URLRouter` takes them. They get session and user, and foreign pages are
            refused. GraphQL stays at its path, unless a `path()` here is for that very path.
        http: an application for HTTP in place of Django's. Its lifespan runs too.

    Raises:
        TypeError: an argument is not of these kinds.
    """
    with settings_expected():
        django_application = get_django_application()
    if http is not None:
        _check_application(http, "get_asgi_application(http=…)")

    # These need apps that are loaded.
    from channels.routing import ProtocolTypeRouter  # type: ignore[import-untyped]

    from rail_async_tasks.graphql.sockets import socket_router

    router = ProtocolTypeRouter(
        {
            "http": _in_a_thread(django_application) if http is None else ended_by_drain(http),
            "websocket": socket_router(websocket),
        }
    )
    return _hosting(router, inner=http)


def with_tasks(application: Application) -> Application:
    """Returns an ASGI application of the project's with the task runtime around it.

    The runtime starts with the server and drains with it, under any server. The application's own
    lifespan, if it has one, runs around the runtime's: what it opens is there for tasks. Around an
    application that hosts the runtime already it changes nothing.

    Raises:
        TypeError: it is no ASGI application.
    """
    _check_application(application, "with_tasks(…)")
    if not apps.ready:
        with settings_expected():
            django.setup(set_prefix=False)
    if getattr(application, _HOSTS, False) is True:
        return application
    is_django = isinstance(application, ASGIHandler)
    served = _in_a_thread(application) if is_django else application
    return _hosting(ended_by_drain(served), inner=application)


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Starts the runtime in the server's loop, and ends it there.

    For a router of the project's own: `ProtocolTypeRouter({..., "lifespan": lifespan})`.
    """
    await lifespans.run(None, scope, receive, send, lifespans.ServerHost())


class _Hosting:
    """An application, and the runtime beside it.

    Args:
        inner: the application of the project's whose lifespan runs too.
    """

    hosts_tasks = True

    def __init__(self, application: Application, inner: Application | None) -> None:
        self._application = application
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from rail_async_tasks.servers import first_request

        if scope["type"] == "lifespan":
            await self.live(scope, receive, send, lifespans.ServerHost())
            return
        if scope["type"] in ("http", "websocket"):
            await first_request.arrived()  # the server may send no lifespan
        await self._application(scope, receive, send)

    async def live(self, scope: Scope, receive: Receive, send: Send, host: lifespans.Host) -> None:
        """Speaks lifespan with a server."""
        await lifespans.run(self._inner, scope, receive, send, host)


def _in_a_thread(django_application: Any) -> Application:
    """Wraps Django's own application, which says when a request's last call is made.

    Others never say it, and may make calls for requests at the same time in one thread.
    """
    from rail_async_tasks.servers import request_threads

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await request_threads.served_by_a_thread(django_application, scope, receive, send)
        else:
            await django_application(scope, receive, send)

    return serve


def _hosting(application: Application, inner: Application | None) -> Application:
    hosting = _Hosting(application, inner)
    if "daphne.server" in sys.modules:
        # It serves us; or it is only installed, and its reactor never runs.
        from rail_async_tasks.servers.daphne import host_in_reactor

        return host_in_reactor(hosting, hosting.live)
    return hosting


def _check_application(application: Any, place: str) -> None:
    """Raises `TypeError` for what is known to be no ASGI application."""
    factories: tuple[Callable[..., Any], ...] = (get_django_application, get_asgi_application)
    if application in factories:
        raise TypeError(f"{place}: got the function {application.__name__}; call it.")
    if isinstance(application, WSGIHandler):
        raise TypeError(
            f"{place}: got a WSGI application; use django.core.asgi.get_asgi_application()."
        )
    if not callable(application):
        raise TypeError(
            f"{place}: must be an ASGI application, not {application!r:.100}; an ASGI application"
            " is called with scope, receive and send."
        )
