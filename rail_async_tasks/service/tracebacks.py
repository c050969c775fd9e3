"""Tracebacks of failed attempts, for those who may read them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from uuid import UUID

from rail_async_tasks.access import Viewer, may_see_tracebacks
from rail_async_tasks.hosting import process
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.own_views import release_connections
from rail_async_tasks.service.read import on_ledger
from rail_async_tasks.snapshot import TaskSnapshot


class Tracebacks:
    """Tracebacks of some tasks for one viewer, read together at the first request for one.

    Args:
        in_stream: the answer may stay open for hours, and holds no database connection meanwhile.
    """

    def __init__(
        self, viewer: Viewer, snapshots: Iterable[TaskSnapshot], *, in_stream: bool = False
    ) -> None:
        failed = (it.id for it in snapshots if it.error is not None)
        self._ids = list(failed) if may_see_tracebacks(viewer) else []
        self.viewer = viewer
        self._in_stream = in_stream
        self._found: dict[UUID, str] | None = None
        self._reading: asyncio.Task[dict[UUID, str]] | None = None

    def get(self, task_id: UUID) -> str | Awaitable[str | None] | None:
        """Returns the traceback; None for a viewer who may not read it, and where there is none.

        On an event loop it is an awaitable where the ledger must be read.
        """
        if not self._ids:
            return None
        if self._found is None:
            if asyncio._get_running_loop() is not None:
                return self.aget(task_id)
            self._found = process.ledger().tracebacks(self._ids)
        return self._found.get(task_id)

    async def aget(self, task_id: UUID) -> str | None:
        """`get` on an event loop."""
        if not self._ids:
            return None
        if self._reading is None:
            self._reading = asyncio.create_task(on_ledger(self._read))
        # Fields of other tasks wait for the same read: a cancel of one must not end it.
        return (await asyncio.shield(self._reading)).get(task_id)

    def _read(self, ledger: Ledger) -> dict[UUID, str]:
        try:
            return ledger.tracebacks(self._ids)
        finally:
            if self._in_stream and ledger.blocking:
                release_connections()
