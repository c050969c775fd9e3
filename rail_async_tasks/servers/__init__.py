"""Support for servers beyond ASGI, one module each."""

from __future__ import annotations

from rail_async_tasks.servers import gunicorn, hypercorn, uvicorn


def watch() -> None:
    """Makes the drain begin when the server ends, whatever ends it.

    Hooks into the servers that this process has imported, so it may be called again.
    """
    for server in (uvicorn, gunicorn, hypercorn):
        server.watch()
