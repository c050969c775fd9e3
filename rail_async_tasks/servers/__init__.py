"""What servers need beyond ASGI: see the module of each."""

from __future__ import annotations

from rail_async_tasks.servers import gunicorn, hypercorn, uvicorn


def watch() -> None:
    """Has the drain begin with the end of the server, whatever ends it.

    Hooks into the servers that this process has imported, so it may be called again.
    """
    for server in (uvicorn, gunicorn, hypercorn):
        server.watch()
