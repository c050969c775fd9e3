"""Bodies that wait for other tasks: which body, for which task, since when.

The context of a wait names its body. Threads that a body starts, or whose pool it uses, do not have
that context, unless they are given it, as by `asyncio.to_thread`. There the handle that is waited
for names the body that has made it. A wait of which neither is known is a stray one: it may be a
body's, or anyone's.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Self

from rail_async_tasks.runtime.attempts.orm_threads import keep_thread_while_waiting
from rail_async_tasks.runtime.attempts.timings import ATTEMPT_TIMINGS, AttemptTimings
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

if TYPE_CHECKING:  # who waits for a task outside of a body does without these
    from rail_async_tasks.runtime.attempts.attempt import Attempt
    from rail_async_tasks.runtime.claims.plan import Line
    from rail_async_tasks.runtime.state import RuntimeState

logger = get_logger("rail_async_tasks.runtime")

_waits: contextvars.ContextVar[tuple[Waits, Attempt] | None] = contextvars.ContextVar(
    "rail_waits", default=None
)


class Maker:
    """The body that makes a handle in the current context. Keeps nothing of it in memory."""

    __slots__ = ("_attempt", "_waits")

    def __init__(self, waits: Waits, attempt: Attempt) -> None:
        self._waits = weakref.ref(waits)
        self._attempt = weakref.ref(attempt)

    @classmethod
    def current(cls) -> Self | None:
        """Returns the body of this context; None outside of bodies."""
        found = _waits.get()
        return None if found is None else cls(*found)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Pickles as None: in another process the body is not there."""
        return type(None), ()

    def found(self) -> tuple[Waits, Attempt] | None:
        """Returns the body, and where its waits are known, while it is in memory."""
        waits, attempt = self._waits(), self._attempt()
        return None if waits is None or attempt is None else (waits, attempt)


class Stray(NamedTuple):
    """A thread that a body may have started, and where its wait is reported."""

    waits: Waits
    thread: str


@contextmanager
def waiting_for(
    awaited: TaskSnapshot, *, maker: Maker | None = None, stray: Stray | None = None
) -> Iterator[None]:
    """Surrounds a wait for a task, in any thread; does nothing where no body is known.

    Args:
        maker: the body that has made the handle. It waits, where the context names no other one.
        stray: where the wait is reported if no body is known; None for a wait outside of bodies.
    """
    found = _running(_waits.get()) or _running(None if maker is None else maker.found())
    if found is not None:
        waits, attempt = found
        keep_thread_while_waiting(attempt.seat)
        wait = Wait(attempt, awaited)
    elif stray is not None:
        waits, wait = stray.waits, Wait(None, awaited, stray.thread)
    else:
        yield
        return
    waits.call_soon(waits.begin, wait)
    try:
        yield
    finally:
        waits.call_soon(waits.end, wait)


def _running(found: tuple[Waits, Attempt] | None) -> tuple[Waits, Attempt] | None:
    return None if found is None or found[1].ended else found


class Wait:
    """One wait for one task: of a body, or a stray one, in the thread of that name.

    `since` is after how many seconds of it the awaited task last had a chance, or will have: it is
    due, or another body has ended. `holders` held its slots when it was last looked at.
    """

    def __init__(
        self, attempt: Attempt | None, awaited: TaskSnapshot, thread: str | None = None
    ) -> None:
        self.attempt = attempt
        self.awaited = awaited
        self.began = 0.0  # by the loop's clock
        self.timer: asyncio.TimerHandle | None = None
        self.is_looked_at = False
        self.reported = False
        self.since = 0.0
        self.holders: list[Attempt] = []
        self._thread = thread

    def __str__(self) -> str:
        if self.attempt is not None:
            return str(self.attempt)
        return f"The thread {self._thread!r}"

    @property
    def is_over(self) -> bool:
        """Returns whether its body has ended."""
        return self.attempt is not None and self.attempt.ended


class Waits:
    """The waits of one runtime's bodies, and stray ones. On its loop, but for `call_soon`.

    Args:
        look: is awaited now and then for each wait, with the seconds that it has lasted. Returns
            the line in which the awaited task lacks a slot, or None.
    """

    def __init__(
        self,
        *,
        state: RuntimeState,
        look: Callable[[Wait, float], Awaitable[Line | None]],
        timings: AttemptTimings = ATTEMPT_TIMINGS,
    ) -> None:
        self._state = state
        self._look = look
        self._timings = timings
        self._loop = asyncio.get_running_loop()
        self._waits: set[Wait] = set()
        # Those whose tasks lack a slot, the longest first.
        self._lines: defaultdict[Line, dict[Wait, None]] = defaultdict(dict)
        self._looks: set[asyncio.Task[None]] = set()

    def enter(self, attempt: Attempt) -> None:
        """Makes waits in the current context those of this attempt."""
        _waits.set((self, attempt))

    def call_soon(self, call: Callable[[Wait], None], wait: Wait) -> None:
        """Calls on the runtime's loop. From any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, wait)

    def begin(self, wait: Wait) -> None:
        """A wait begins."""
        self._waits.add(wait)
        wait.began = self._loop.time()
        self._look_in(self._timings.wait_first_look, wait)

    def end(self, wait: Wait) -> None:
        """The wait is over."""
        self._waits.discard(wait)
        self._leave_lines(wait)
        if wait.timer is not None:
            wait.timer.cancel()

    def slot_freed(self) -> None:
        """A body has ended: looks at once at the first wait of each line."""
        for line in list(self._lines.values()):
            wait = next((it for it in line if not it.is_looked_at), None)
            if wait is not None:
                if wait.timer is not None:
                    wait.timer.cancel()
                self._begin_look(wait, freed=True)

    @property
    def attempts(self) -> set[Attempt]:
        """The attempts whose bodies wait."""
        return {wait.attempt for wait in self._waits if wait.attempt is not None}

    async def close(self, seconds: float) -> None:
        """Ends all waits; returns when no look is under way, after so many seconds in any case."""
        for wait in list(self._waits):
            self.end(wait)
        if self._looks:
            await asyncio.wait(self._looks, timeout=seconds)

    def _leave_lines(self, wait: Wait) -> None:
        for line in self._lines.values():
            line.pop(wait, None)

    def _look_in(self, seconds: float, wait: Wait) -> None:
        if wait in self._waits and not wait.is_over and not self._state.draining:
            wait.timer = self._loop.call_later(seconds, self._begin_look, wait)

    def _begin_look(self, wait: Wait, freed: bool = False) -> None:
        wait.is_looked_at = True
        # A clean context: an attempt that a look begins must not inherit that of this timer.
        look = self._loop.create_task(
            self._look_safely(wait, freed), name="rail-tasks-wait", context=contextvars.Context()
        )
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _look_safely(self, wait: Wait, freed: bool) -> None:
        lacks: Line | None = None
        try:
            lacks = await self._look(wait, self._loop.time() - wait.began)
        except Exception as error:
            logger.warning("A look at what %s waits for failed: %s", wait, error)
        wait.is_looked_at = False
        if lacks is None or wait not in self._waits:
            self._leave_lines(wait)
        else:
            self._lines[lacks].setdefault(wait)
        self._look_in(self._timings.wait_look_every, wait)
        if freed and lacks is None:
            self.slot_freed()  # there may be more slots than that one
