"""What the project hears of a task that has failed for good: a log line, or a call of its own code.

The row says that a call is due (`callback_at`), from the same commit that failed it until the call
has returned. So it is made once, and once more by another process where the one that made it died.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from asgiref.sync import async_to_sync

from rail_async_tasks.conf import TaskSettings, import_from_setting
from rail_async_tasks.hooks import is_async
from rail_async_tasks.runtime.attempts.lanes import OrmLane, Seat
from rail_async_tasks.runtime.attempts.threads import DaemonThreads, leaving_nothing
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

if TYPE_CHECKING:
    from rail_async_tasks.ledger.port import Ledger

logger = get_logger("rail_async_tasks.failures")

Callback = Callable[..., Any]

# A call that was made so long ago (seconds), and neither returned nor was renewed, died with its
# process: others may make it.
HOLD: Final = 60.0
# The same of a call in the caller's thread: it comes after the transaction, and nothing renews it.
INLINE_HOLD: Final = 3600.0
# Calls at once; the others wait.
AT_ONCE: Final = 10
# Calls that this process makes or has waiting. More stay in their rows, for whoever has room.
MOST_WAITING: Final = 1000
# Calls that are taken over in one transaction.
PAGE: Final = 100
# What a call may take, in seconds: ten that hang would be the end of all others.
LONGEST: Final = 300.0
# A mark that another transaction has locked is taken away this much later, in seconds.
CLEAR_AGAIN: Final = 0.2
# What calls that were cancelled at the end get to go, in seconds.
LAST_WORDS: Final = 0.2


def hold_of(settings: TaskSettings) -> float | None:
    """For how long (seconds) a failure's call is reserved for this process; None without calls."""
    if settings.on_failure != "callback":
        return None
    return INLINE_HOLD if settings.backend == "sync" else HOLD


def keywords_of(snapshot: TaskSnapshot, traceback: str | None) -> dict[str, str]:
    """What a callback is called with."""
    return {
        "taskId": str(snapshot.id),
        "task_name": snapshot.name,
        "error": snapshot.error or "",
        "traceback": traceback or "",
    }


def find_callback(settings: TaskSettings) -> Callback | None:
    """The project's callback; None where failures are logged.

    Raises:
        ConfigurationError: it can't be imported.
    """
    if settings.on_failure != "callback":
        return None
    assert settings.failure_callback is not None
    place = 'task_settings["failure_callback"]'
    return import_from_setting(settings.failure_callback, place)  # type: ignore[no-any-return]


def log_failure(snapshot: TaskSnapshot) -> None:
    """The line of `on_failure: "log"`. The error's text may tell secrets, so it is not in it."""
    logger.error(
        "Task %s (%s) failed: %s", snapshot.name, snapshot.id, snapshot.error_code,
        extra={
            "task_id": str(snapshot.id),
            "task_name": snapshot.name,
            "queue": snapshot.queue,
            "attempt": snapshot.attempts,
            "status": str(snapshot.status),
            "error_code": snapshot.error_code,
        },
    )  # fmt: skip


def call_here(callback: Callback, snapshot: TaskSnapshot, traceback: str | None) -> None:
    """Calls the callback in this thread, which has no running event loop. Never raises."""
    call = async_to_sync(callback) if is_async(callback) else callback
    error = _error_of(partial(call, **keywords_of(snapshot, traceback)))
    if isinstance(error, KeyboardInterrupt):
        raise error
    if error is not None:
        _complain(snapshot.id, error)


class FailureCallbacks:
    """Hears of failures in one runtime, and makes the calls: on its loop or in threads.

    `is_ending` says whether the process is going away: what fails then may fail for that reason.

    Raises:
        ConfigurationError: the callback can't be imported.
    """

    def __init__(
        self, settings: TaskSettings, ledger: Ledger, is_ending: Callable[[], bool] = lambda: False
    ) -> None:
        self._callback = find_callback(settings)
        self._is_async = self._callback is not None and is_async(self._callback)
        self._ledger = ledger
        self._reservations = ledger.callbacks()
        self._is_ending = is_ending
        self._threads = DaemonThreads("rail-tasks-callback")
        self._lane = OrmLane(0)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._closed = False
        # Those whose call waits, or is being made, or whose mark is still to be taken away.
        self._held: set[UUID] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._made: set[UUID] = set()
        self._clearing: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    def failed(self, snapshot: TaskSnapshot, traceback: str | None) -> None:
        """A task has failed for good, by this process's doing. On the loop; never blocks."""
        if self._callback is None:
            log_failure(snapshot)
        elif self._has_room():
            self._begin(self._callback, snapshot, traceback)
        # Otherwise the mark stays, and somebody finds it when it is overdue.

    async def find_overdue(self) -> None:
        """Takes over the calls of processes that have died in the middle, or had no room."""
        if self._callback is None or self._reservations is None:
            return
        while self._has_room():
            found = await self._reservations.take_overdue(HOLD, PAGE, frozenset(self._held))
            for snapshot, traceback in found:
                if not self._closed:
                    self._begin(self._callback, snapshot, traceback)
            if len(found) < PAGE:
                return

    async def ended(self, seconds: float) -> None:
        """Returns when no call is under way; after that time those that are stay marked."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=seconds)
        self._closed = True
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=LAST_WORDS)
        if self._clearing is not None:
            await asyncio.wait({self._clearing}, timeout=seconds)
        if self._keeping is not None:
            self._keeping.cancel()
        self._threads.shutdown()
        self._lane.close()

    def _has_room(self) -> bool:
        # Rows in memory have no mark that somebody could find: all of theirs wait here.
        return not self._closed and (len(self._held) < MOST_WAITING or not self._ledger.blocking)

    # --- a call ----------------------------------------------------------------------------------

    def _begin(self, callback: Callback, snapshot: TaskSnapshot, traceback: str | None) -> None:
        if snapshot.id in self._held:
            return
        self._held.add(snapshot.id)
        # A clean context: one inherited from a request would outlive it.
        seat = self._lane.enter(_name_of(snapshot.id))
        call = asyncio.get_running_loop().create_task(
            self._make(callback, snapshot, traceback), context=seat.context()
        )
        self._calls.add(call)
        call.add_done_callback(partial(self._over, seat))
        if self._keeping is None:
            self._keeping = self._in_background(self._keep())

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
            _complain(snapshot.id, error)
            if self._is_ending():
                return  # it may have wanted what is gone already: another process tries
        self._made.add(snapshot.id)
        if self._clearing is None:
            self._clearing = self._in_background(self._clear())

    async def _call(self, call: Callable[[], Any], task_id: UUID) -> BaseException | None:
        """What the callback raised, if it did: whatever that is, it must not end the loop."""
        scope = asyncio.timeout(LONGEST)
        try:
            async with scope:
                if self._is_async:
                    await call()
                    return None
                run = partial(contextvars.Context().run, _error_of, call)
                future = self._threads.submit(leaving_nothing, run, _name_of(task_id))
                return await asyncio.wrap_future(future)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if scope.expired():
                return TimeoutError(f"It has taken longer than {LONGEST:g} s, and is given up.")
            if isinstance(error, asyncio.CancelledError) and self._closed:
                raise
            return error

    # --- its mark --------------------------------------------------------------------------------

    async def _clear(self) -> None:
        """Takes the marks away of those calls that have been made, in one statement each time."""
        while self._made:
            made, self._made = self._made, set()
            try:
                locked = set()
                if self._reservations is not None:
                    locked = await self._reservations.made(made)
            except Exception as error:
                logger.error("The marks of %d calls stay: %s", len(made), error)  # noqa: TRY400
                locked = set()
            self._held -= made - locked
            self._made |= locked
            if locked:
                await asyncio.sleep(CLEAR_AGAIN)
        self._clearing = None

    async def _keep(self) -> None:
        """A call that waits or takes long is not made by another process meanwhile."""
        while self._held:
            await asyncio.sleep(HOLD / 3)
            try:
                if self._reservations is not None:
                    await self._reservations.keep(frozenset(self._held - self._made), HOLD)
            except Exception as error:
                logger.warning("Failure callbacks can't be kept: %s", error)
        self._keeping = None

    @staticmethod
    def _in_background(coroutine: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(coroutine, context=contextvars.Context())


def _error_of(call: Callable[[], Any]) -> BaseException | None:
    """What the call raises, in a thread without a running event loop."""
    try:
        answer = call()
        if isawaitable(answer):  # a plain function around a coroutine, as decorators make
            async_to_sync(_awaited)(answer)
    except BaseException as error:
        return error
    return None


async def _awaited(answer: Awaitable[Any]) -> None:
    await answer


def _name_of(task_id: UUID) -> str:
    return f"The failure callback of task {task_id}"


def _complain(task_id: UUID, error: BaseException) -> None:
    """Told once: a callback that fails will most likely fail again."""
    logger.error("%s raised", _name_of(task_id), exc_info=error)
