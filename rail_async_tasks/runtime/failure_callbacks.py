"""Calls the project's failure callback: once for each task that has failed for good.

The row says that a call is due (`callback_at`), from the same commit that failed it until the call
has returned. So it is made once, and once more by another process where the one that made it died.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.hooks import is_async
from rail_async_tasks.ledger.upkeep import Callbacks
from rail_async_tasks.runtime.attempts.leftovers import close_scopes
from rail_async_tasks.runtime.attempts.orm_threads import OrmThread, Seat
from rail_async_tasks.runtime.attempts.threads import DaemonThreads, leaving_nothing, threads_ended
from rail_async_tasks.runtime.failures import (
    HOLD,
    Callback,
    call_name,
    error_of,
    find_callback,
    keywords_of,
    log_error,
)
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.text import counted

logger = get_logger("rail_async_tasks.failures")


class CallbackLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Times are in seconds."""

    # A reservation lasts so long; it is prolonged after a third of that.
    hold: float = HOLD
    # Calls at once; the others wait.
    at_once: int = 10
    # Calls that this process makes or has waiting. More stay in their rows, for other processes.
    most_waiting: int = 1000
    # Calls that are taken over in one transaction.
    page: int = 100
    # A call may take so long: ten that hang would be the end of all others.
    call_timeout: float = 300.0
    # A reservation whose row another transaction has locked is ended this much later.
    clear_again_after: float = 0.2
    # Calls that were cancelled at the end get so long to return; so do the threads.
    cancel_timeout: float = 0.2


CALLBACK_LIMITS = CallbackLimits()


class FailureCallbacks:
    """Makes the calls of one runtime's failures, on its loop or in threads.

    Args:
        reservations: of callbacks that are still to be made, in their rows; None where rows are in
            this process's memory.
        state: a call that fails while the runtime drains is left to another process.

    Raises:
        ConfigurationError: the callback can't be imported.
    """

    def __init__(
        self,
        *,
        settings: TaskSettings,
        reservations: Callbacks | None,
        state: RuntimeState,
        limits: CallbackLimits = CALLBACK_LIMITS,
    ) -> None:
        self._callback = find_callback(settings)
        self._is_async = self._callback is not None and is_async(self._callback)
        self._reservations = reservations
        self._state = state
        self._limits = limits
        self._threads = DaemonThreads("rail-tasks-callback")
        self._orm_thread = OrmThread(0)
        self._slots = asyncio.Semaphore(limits.at_once)
        self._closed = False
        # Tasks whose call waits, or is being made, or whose reservation is still in the row.
        self._held: set[UUID] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._made: set[UUID] = set()
        self._clearing: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    def failed(self, snapshot: TaskSnapshot, traceback: str | None) -> None:
        """Calls back, soon, where there is a callback. On the loop; never blocks."""
        if self._callback is not None and self._has_room():
            self._begin(self._callback, snapshot, traceback)
        # Otherwise the reservation lapses, and the process that finds it makes the call.

    async def find_overdue(self) -> None:
        """Takes over overdue calls, of processes that have died or had no room."""
        if self._callback is None or self._reservations is None:
            return
        while self._has_room():
            found = await self._reservations.take_overdue(
                self._limits.hold, self._limits.page, frozenset(self._held)
            )
            for snapshot, traceback in found:
                if not self._closed:
                    self._begin(self._callback, snapshot, traceback)
            if len(found) < self._limits.page:
                return

    async def ended(self, seconds: float) -> None:
        """Returns when no call is under way; cancels the rest after so many seconds.

        Other processes make the calls that were cancelled.
        """
        if self._calls:
            await asyncio.wait(self._calls, timeout=seconds)
        self._closed = True
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=self._limits.cancel_timeout)
        if self._clearing is not None:
            await asyncio.wait({self._clearing}, timeout=seconds)
        if self._keeping is not None:
            self._keeping.cancel()
        threads = [self._threads, *self._orm_thread.close()]
        await threads_ended(threads, self._limits.cancel_timeout)

    def _has_room(self) -> bool:
        # Rows in memory have no reservation that could lapse: all their calls wait here.
        return not self._closed and (
            len(self._held) < self._limits.most_waiting or self._reservations is None
        )

    # --- a call ----------------------------------------------------------------------------------

    def _begin(self, callback: Callback, snapshot: TaskSnapshot, traceback: str | None) -> None:
        if snapshot.id in self._held:
            return
        self._held.add(snapshot.id)
        # A clean context: one inherited from a request would outlive it.
        seat = self._orm_thread.enter(call_name(snapshot.id))
        call = asyncio.get_running_loop().create_task(
            self._make(callback, snapshot, traceback), context=seat.context()
        )
        self._calls.add(call)
        call.add_done_callback(partial(self._over, seat))
        if self._keeping is None and self._reservations is not None:
            self._keeping = self._in_background(self._keep(self._reservations))

    def _over(self, seat: Seat, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        seat.leave()

    async def _make(
        self, callback: Callback, snapshot: TaskSnapshot, traceback: str | None
    ) -> None:
        keywords = keywords_of(snapshot, traceback)
        async with self._slots:
            error = await self._call(partial(callback, **keywords), snapshot.id)
        if error is not None:
            log_error(snapshot.id, error)
            if self._state.draining:
                return  # it may have wanted what is gone already: another process tries
        self._made.add(snapshot.id)
        if self._clearing is None:
            self._clearing = self._in_background(self._clear())

    async def _call(self, call: Callable[[], Any], task_id: UUID) -> BaseException | None:
        """Makes a call; returns what it raised, which must not end the loop."""
        scope = asyncio.timeout(self._limits.call_timeout)
        try:
            async with scope:
                if self._is_async:
                    await call()
                    return None
                run = partial(contextvars.Context().run, error_of, call)
                future = self._threads.submit(leaving_nothing, run, call_name(task_id))
                return await asyncio.wrap_future(future)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if scope.expired():
                return TimeoutError(
                    f"It has taken longer than {self._limits.call_timeout:g} s, and is given up."
                )
            if isinstance(error, asyncio.CancelledError) and self._closed:
                raise
            return error
        finally:
            close_scopes()

    # --- its reservation -------------------------------------------------------------------------

    async def _clear(self) -> None:
        """Ends the reservations of calls that were made, in one statement each time."""
        while self._made:
            made, self._made = self._made, set()
            try:
                locked = set()
                if self._reservations is not None:
                    locked = await self._reservations.made(made)
            except Exception as error:
                calls = counted(len(made), "failure callback")
                logger.error("The reservation of %s stays: %s", calls, error)  # noqa: TRY400
                locked = set()
            self._held -= made - locked
            self._made |= locked
            if locked:
                await asyncio.sleep(self._limits.clear_again_after)
        self._clearing = None

    async def _keep(self, reservations: Callbacks) -> None:
        """Prolongs reservations, so that no other process makes a call that waits or takes long."""
        while self._held:
            await asyncio.sleep(self._limits.hold / 3)
            try:
                await reservations.keep(frozenset(self._held - self._made), self._limits.hold)
            except Exception as error:
                logger.warning("Failure callbacks can't be kept: %s", error)
        self._keeping = None

    @staticmethod
    def _in_background(coroutine: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coroutine, context=contextvars.Context())
