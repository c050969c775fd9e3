"""Starts the runtime with the first request, under servers that send no lifespan.

The server leaves lifespan out (`uvicorn --lifespan off`), or the application does not handle it:
Django's own, or a router of the project's own.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.core import mail
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started

from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import TablesMissing
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.hosting.tables import log_missing
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.servers import watch

logger = get_logger("rail_async_tasks.servers")

_UID: Final = "rail_async_tasks.servers.first_request"


def expect() -> None:
    """Waits for the first request that reaches Django. Called when the app is ready."""
    request_started.connect(_request_started, dispatch_uid=_UID)


def _request_started(sender: type, **request: Any) -> None:
    """Handles Django's signal, in a thread under ASGI too as it is no coroutine."""
    if _under_test() or not issubclass(sender, (ASGIHandler, WSGIHandler)):
        return
    request_started.disconnect(dispatch_uid=_UID)
    if "scope" in request:
        async_to_sync(arrived)()  # on the server's loop
    else:
        # Not waited for: a server that allows no threads would never answer.
        threading.Thread(target=_start_in_thread, name="rail-tasks-start", daemon=True).start()


def _start_in_thread() -> None:
    """Starts the runtime in a thread, under WSGI."""
    try:
        settings = get_settings()
        if settings.enabled and settings.backend != "sync":
            host.runtime_in_thread()
    except TablesMissing as error:  # the first task tries again
        log_missing(error)
    except Exception:
        logger.exception("The task runtime could not start.")


async def arrived() -> None:
    """Starts the runtime for the first request, unless the server has started it."""
    if server.is_served() or _under_test():
        return
    try:
        settings = get_settings()
        if not settings.enabled or settings.backend == "sync":
            return
        await server.startup(announced=False)
    except Exception:
        logger.exception("The task runtime could not start. The next request tries again.")
        expect()
        return
    watch()
    if not _joins_reactor():
        server.drain_on_signal()
    logger.warning(
        "The server has sent no ASGI lifespan, so the task runtime starts with this first request;"
        " until now no task was run here, also none that another process has left. Make"
        " the application in asgi.py with rail_async_tasks.asgi.get_asgi_application(), or put"
        " rail_async_tasks.asgi.with_tasks(…) around your own, and start the"
        " server without an option like uvicorn's --lifespan off."
    )


def _joins_reactor() -> bool:
    if "daphne.server" not in sys.modules:
        return False
    from rail_async_tasks.servers.daphne import drain_with_reactor

    return drain_with_reactor()


def _under_test() -> bool:
    """Returns whether Django's test runner or pytest-django runs, whose tests start runtimes."""
    return hasattr(mail, "outbox")
