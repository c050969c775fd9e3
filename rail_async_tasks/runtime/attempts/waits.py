"""Bodies that wait for other tasks: which body, for which task, since when.

The context of a wait names its body. Threads that a body starts, or whose pool it uses, do not have
that context, unless they are given it, as by `asyncio.to_thread`. There the handle that is waited
for names the body that has made it. A wait of which neither is known is a stray one: it may be a
body's, or anyone's.
"""

from __future__ import annotations

import contextvars
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from rail_async_tasks.runtime.attempts.orm_threads import keep_thread_while_waiting
from rail_async_tasks.snapshot import TaskSnapshot

if TYPE_CHECKING:  # who waits for a task outside of a body does without these
    from rail_async_tasks.runtime.attempts.attempt import Attempt


class WaitRecords(Protocol):
    """Where the waits of a runtime's bodies are known: `waiters.Waiters`."""

    def call_soon(self, call: Callable[[Wait], None], wait: Wait) -> None:
        """Calls on the runtime's loop. From any thread."""
        ...

    def begin(self, wait: Wait) -> None:
        """A wait begins. On the runtime's loop."""
        ...

    def end(self, wait: Wait) -> None:
        """The wait is over. On the runtime's loop."""
        ...


_body: contextvars.ContextVar[tuple[WaitRecords, Attempt] | None] = contextvars.ContextVar(
    "rail_waiting_body", default=None
)


def waits_are_of(waiters: WaitRecords, attempt: Attempt) -> None:
    """Makes waits in the current context those of this attempt's body, known to `waiters`."""
    _body.set((waiters, attempt))


class Maker:
    """The body that makes a handle in the current context. Keeps nothing of it in memory."""

    __slots__ = ("_attempt", "_waiters")

    def __init__(self, waiters: WaitRecords, attempt: Attempt) -> None:
        self._waiters = weakref.ref(waiters)
        self._attempt = weakref.ref(attempt)

    @classmethod
    def current(cls) -> Self | None:
        """Returns the body of this context; None outside of bodies."""
        found = _body.get()
        return None if found is None else cls(*found)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Pickles as None: in another process the body is not there."""
        return type(None), ()

    def found(self) -> tuple[WaitRecords, Attempt] | None:
        """Returns the body, and where its waits are known, while it is in memory."""
        waiters, attempt = self._waiters(), self._attempt()
        return None if waiters is None or attempt is None else (waiters, attempt)


class Stray(NamedTuple):
    """A thread that a body may have started, and where its wait is reported."""

    waiters: WaitRecords
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
    found = _running(_body.get()) or _running(None if maker is None else maker.found())
    if found is not None:
        waiters, attempt = found
        keep_thread_while_waiting(attempt.seat)
        wait = Wait(attempt, awaited)
    elif stray is not None:
        waiters, wait = stray.waiters, Wait(None, awaited, stray.thread)
    else:
        yield
        return
    waiters.call_soon(waiters.begin, wait)
    try:
        yield
    finally:
        waiters.call_soon(waiters.end, wait)


def _running(found: tuple[WaitRecords, Attempt] | None) -> tuple[WaitRecords, Attempt] | None:
    return None if found is None or found[1].ended else found


class Wait:
    """One wait for one task: of a body, or a stray one, in the thread of that name."""

    def __init__(
        self, attempt: Attempt | None, awaited: TaskSnapshot, thread: str | None = None
    ) -> None:
        self.attempt = attempt
        self.awaited = awaited
        self.thread = thread
