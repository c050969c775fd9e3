"""Bodies that wait for other tasks: which body, for which task, since when."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rail_async_tasks.runtime.attempts.orm_threads import keep_thread_while_waiting
from rail_async_tasks.runtime.attempts.timings import ATTEMPT_TIMINGS, AttemptTimings
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

if TYPE_CHECKING:  # who waits for a task outside of a body does without these
    from rail_async_tasks.runtime.attempts.attempt import Attempt
    from rail_async_tasks.runtime.state import RuntimeState

logger = get_logger("rail_async_tasks.runtime")

_waits: contextvars.ContextVar[tuple[Waits, Attempt] | None] = contextvars.ContextVar(
    "rail_waits", default=None
)


@contextmanager
def waiting_for(awaited: TaskSnapshot) -> Iterator[None]:
    """Surrounds a wait for a task, in any thread; does nothing outside of a body."""
    found = _waits.get()
    if found is None or found[1].ended:
        yield
        return
    keep_thread_while_waiting()
    waits, attempt = found
    wait = Wait(attempt, awaited)
    waits.call_soon(waits.begin, wait)
    try:
        yield
    finally:
        waits.call_soon(waits.end, wait)


class Wait:
    """One body that waits for one task."""

    def __init__(self, attempt: Attempt, awaited: TaskSnapshot) -> None:
        self.attempt = attempt
        self.awaited = awaited
        self.timer: asyncio.TimerHandle | None = None
        self.reported = False


class Waits:
    """The waits of one runtime's bodies. On its loop, but for `call_soon`.

    Args:
        look: is awaited now and then for each wait, with the seconds that it has lasted.
    """

    def __init__(
        self,
        *,
        state: RuntimeState,
        look: Callable[[Wait, float], Awaitable[None]],
        timings: AttemptTimings = ATTEMPT_TIMINGS,
    ) -> None:
        self._state = state
        self._look = look
        self._timings = timings
        self._loop = asyncio.get_running_loop()
        self._waits: set[Wait] = set()
        self._looks: set[asyncio.Task[None]] = set()

    def enter(self, attempt: Attempt) -> None:
        """Makes waits in the current context those of this attempt."""
        _waits.set((self, attempt))

    def call_soon(self, call: Callable[[Wait], None], wait: Wait) -> None:
        """Calls on the runtime's loop. From any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, wait)

    def begin(self, wait: Wait) -> None:
        """A body begins to wait."""
        self._waits.add(wait)
        self._look_in(self._timings.wait_first_look, wait, 0.0)

    def end(self, wait: Wait) -> None:
        """The wait is over."""
        self._waits.discard(wait)
        if wait.timer is not None:
            wait.timer.cancel()

    @property
    def attempts(self) -> set[Attempt]:
        """The attempts whose bodies wait."""
        return {wait.attempt for wait in self._waits}

    async def close(self, seconds: float) -> None:
        """Ends all waits; returns when no look is under way, after so many seconds in any case."""
        for wait in list(self._waits):
            self.end(wait)
        if self._looks:
            await asyncio.wait(self._looks, timeout=seconds)

    def _look_in(self, seconds: float, wait: Wait, since: float) -> None:
        if wait in self._waits and not wait.attempt.ended and not self._state.draining:
            wait.timer = self._loop.call_later(seconds, self._begin_look, wait, since + seconds)

    def _begin_look(self, wait: Wait, seconds: float) -> None:
        # A clean context: an attempt that a look begins must not inherit that of this timer.
        look = self._loop.create_task(
            self._look_safely(wait, seconds), name="rail-tasks-wait", context=contextvars.Context()
        )
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _look_safely(self, wait: Wait, seconds: float) -> None:
        try:
            await self._look(wait, seconds)
        except Exception as error:
            logger.warning("A look at what %s waits for failed: %s", wait.attempt, error)
        self._look_in(self._timings.wait_look_every, wait, seconds)
