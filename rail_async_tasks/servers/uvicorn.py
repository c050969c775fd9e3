"""uvicorn, also as gunicorn's worker: the drain begins when it closes its listeners."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

from rail_async_tasks.conf import get_settings
from rail_async_tasks.servers.ending import drained, wrap


def watch() -> None:
    """Hooks into uvicorn, if this process has imported it."""
    module = sys.modules.get("uvicorn.server")
    if module is not None:
        wrap(module.Server, "shutdown", _around)


def _around(server: Any) -> AbstractAsyncContextManager[None]:
    # It then cancels requests that have not ended, and goes on to lifespan's shutdown.
    config, limit = server.config, get_settings().drain_seconds
    config.timeout_graceful_shutdown = min(config.timeout_graceful_shutdown or limit, limit)

    async def beat() -> None:
        # Set by gunicorn's worker: gunicorn aborts a worker that is silent for `--timeout`.
        if config.callback_notify is not None:
            await config.callback_notify()

    return drained(beat)
