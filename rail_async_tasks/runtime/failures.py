"""Failure callbacks: the project's own code, called when a task has failed for good.

The row says that a call is due (`callback_at`), from the same commit that failed it until the call
has returned. So it is made once, and once more by another process where the one that made it died.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from asgiref.sync import async_to_sync

from rail_async_tasks.conf import TaskSettings, import_from_setting
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.events import TaskSnapshot
from rail_async_tasks.runtime.threads import DaemonThreads, with_fresh_connections

if TYPE_CHECKING:
    from rail_async_tasks.ledger.port import Ledger

logger = logging.getLogger("rail_async_tasks.failures")

# A call that was made so long ago (seconds), and neither returned nor was renewed, died with its
# process: others may make it.
HOLD: Final = 60.0
# Calls at once; the others wait.
AT_ONCE: Final = 10


def hold_of(settings: TaskSettings) -> float | None:
    """For how long (seconds) a failure's call is reserved for this process; None without calls."""
    return HOLD if settings.on_failure == "callback" else None


def keywords_of(snapshot: TaskSnapshot, traceback: str | None) -> dict[str, str]:
    """What a callback is called with."""
    return {
        "taskId": str(snapshot.id),
        "task_name": snapshot.name,
        "error": snapshot.error or "",
        "traceback": traceback or "",
    }


def find_callback(settings: TaskSettings) -> Callable[..., Any] | None:
    """The callback of the settings; None, and a log entry, where it can't be imported."""
    assert settings.failure_callback is not None
    try:
        found = import_from_setting(settings.failure_callback, "failure_callback")
    except ConfigurationError:
        logger.exception("The failure callback can't be called")
        return None
    return found  # type: ignore[no-any-return]


def call_here(settings: TaskSettings, snapshot: TaskSnapshot, traceback: str | None) -> None:
    """Calls the callback in this thread, which has no running event loop. Never raises."""
    callback = find_callback(settings)
    if callback is None:
        return
    call = async_to_sync(callback) if iscoroutinefunction(callback) else callback
    try:
        call(**keywords_of(snapshot, traceback))
    except Exception:
        logger.exception("The failure callback of task %s raised", snapshot.id)


class FailureCallbacks:
    """Makes the calls that are due in one runtime, on its loop or in threads of their own."""

    def __init__(self, settings: TaskSettings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._threads = DaemonThreads("rail-tasks-callback")
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._calls: dict[UUID, asyncio.Task[None]] = {}

    @property
    def enabled(self) -> bool:
        return hold_of(self._settings) is not None

    @property
    def running(self) -> int:
        return len(self._calls)

    def failed(self, snapshot: TaskSnapshot, traceback: str | None) -> None:
        """A task has failed for good, by this process's doing. On the loop."""
        if self.enabled and snapshot.id not in self._calls:
            call = asyncio.get_running_loop().create_task(
                self._make(snapshot, traceback), context=contextvars.Context()
            )
            self._calls[snapshot.id] = call
            call.add_done_callback(lambda _: self._calls.pop(snapshot.id, None))

    async def find_overdue(self) -> None:
        """Takes over the calls of processes that have died in the middle."""
        if self.enabled:
            held = set(self._calls)
            for snapshot, traceback in await self._ledger.overdue_callbacks(HOLD, AT_ONCE, held):
                self.failed(snapshot, traceback)

    async def ended(self, seconds: float) -> None:
        """Returns when no call is under way; ends, after that time, those that can be ended."""
        if self._calls:
            await asyncio.wait(set(self._calls.values()), timeout=seconds)
        for call in list(self._calls.values()):
            call.cancel()
        self._threads.shutdown()

    async def _make(self, snapshot: TaskSnapshot, traceback: str | None) -> None:
        callback = find_callback(self._settings)
        renewals = asyncio.get_running_loop().create_task(self._renew(snapshot.id))
        try:
            async with self._slots:
                if callback is not None:
                    await self._call(callback, keywords_of(snapshot, traceback))
        except Exception:
            # Told once: a callback that fails will most likely fail again.
            logger.exception("The failure callback of task %s raised", snapshot.id)
        finally:
            renewals.cancel()
        await self._ledger.callback_made(snapshot.id)

    async def _call(self, callback: Callable[..., Any], keywords: dict[str, str]) -> None:
        if iscoroutinefunction(callback):
            await callback(**keywords)
            return
        call = partial(callback, **keywords)
        future = self._threads.submit(contextvars.Context().run, with_fresh_connections, call)
        await asyncio.wrap_future(future)

    async def _renew(self, execution_id: UUID) -> None:
        """A call that waits or takes long is not made by another process meanwhile."""
        while True:
            await asyncio.sleep(HOLD / 3)
            try:
                await self._ledger.keep_callback(execution_id, HOLD)
            except Exception as error:
                logger.warning("The callback of task %s can't be kept: %s", execution_id, error)
