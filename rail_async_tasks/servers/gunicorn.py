"""gunicorn's own ASGI worker: the drain begins when it closes its listeners."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

from rail_async_tasks.servers.ending import drained, wrap


def watch() -> None:
    """Hooks into gunicorn's worker, if this process has imported it."""
    module = sys.modules.get("gunicorn.workers.gasgi")
    if module is not None:
        wrap(module.ASGIWorker, "_shutdown", _around)


def _around(worker: Any) -> AbstractAsyncContextManager[None]:
    async def beat() -> None:
        worker.notify()

    return drained(beat)
