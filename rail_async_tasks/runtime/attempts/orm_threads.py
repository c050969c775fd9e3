"""The threads in which `async def` bodies make their ORM calls.

A few bodies share a thread, call by call, and its connections with it. A body that leaves anything
on a connection between two calls (a transaction, a cursor, what a statement has set), or that waits
for another task inside a call, keeps the thread for itself from there on; the others go on in a new
one. So nothing in a shared thread is of use to any body, and the connections may be given back
between any two calls.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from rail_async_tasks.runtime.attempts.call_watch import CallWatch
from rail_async_tasks.runtime.attempts.leftovers import give_back
from rail_async_tasks.runtime.attempts.threads import DaemonThreads

T = TypeVar("T")

# Connections of a lane that is never idle are given back so often, in seconds. It ends what a watch
# can't see: a statement past Django, by the driver's own cursor, or a trigger that sets a variable.
GIVE_BACK_AFTER = 5.0


class Seat:
    """The place of one body in a lane. `owner` names the body in the log."""

    __slots__ = ("is_wary", "lane", "left", "owner", "threads")

    def __init__(self, lane: OrmThread, owner: object) -> None:
        self.lane = lane
        self.owner = owner
        self.threads: DaemonThreads | None = None  # the thread that it has for itself
        self.left = False
        self.is_wary = False

    def context(self) -> contextvars.Context:
        """A clean context in which the seat is taken."""
        context = contextvars.Context()
        context.run(self.take)
        return context

    def take(self) -> None:
        """Makes thread-sensitive calls in the current context run in the lane."""
        SyncToAsync.thread_sensitive_context.set(self.lane.sensitive)
        _seat.set(self)

    @contextmanager
    def wary(self) -> Iterator[None]:
        """Gives the body its thread for itself if a call within touches a connection.

        What the call sets there (a schema, a variable of the session) is then for its body alone.
        """
        self.is_wary = True
        try:
            yield
        finally:
            self.is_wary = False

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Makes a call where the body's ORM calls are made. In the body's task."""
        return self.lane.submit(function)

    def leave(self) -> None:
        """Called when the body has ended. Looks after the connections where they were used."""
        self.lane.left_by(self)


_seat: contextvars.ContextVar[Seat | None] = contextvars.ContextVar("rail_seat", default=None)


def keep_thread_while_waiting(seat: Seat | None) -> None:
    """Lets other bodies go on elsewhere if this one waits inside one of its ORM calls."""
    if seat is not None:
        seat.lane.set_apart_if_running(seat)


class _Call:
    """A call in line: asgiref's, on behalf of a body."""

    __slots__ = ("function", "future", "lane", "seat")

    def __init__(self, lane: OrmThread, function: Callable[[], Any], seat: Seat | None) -> None:
        self.lane = lane
        self.function = function
        self.seat = seat
        self.future: Future[Any] = Future()

    def __call__(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        self.lane.begins(self.seat)
        try:
            watch = CallWatch(self.seat is not None and self.seat.is_wary)
            try:
                result = self.function()
            finally:
                self.lane.ended(self.seat, watch)
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class OrmThread:
    """A thread in which the ORM calls of some attempts run, with its connections."""

    def __init__(self, number: int) -> None:
        self._name = f"rail-tasks-orm-{number}"
        self._threads = self._new_thread()
        self._apart: WeakSet[DaemonThreads] = WeakSet()  # threads that seats have for themselves
        self._lock = threading.Lock()
        self._running: Seat | None = None  # whose call the shared thread is in
        self._calls = 0
        self._calls_given_back = 0  # as many there were when the connections were given back
        self._give_back_at = 0.0  # by the monotonic clock
        self.attempts = 0
        self.sensitive = ThreadSensitiveContext()
        # asgiref looks an executor up by the context's `thread_sensitive_context`.
        SyncToAsync.context_to_thread_executor[self.sensitive] = self  # type: ignore[assignment]

    def _new_thread(self) -> DaemonThreads:
        return DaemonThreads(self._name, limit=1)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        call = _Call(self, partial(fn, *args, **kwargs), _seat.get())
        with self._lock:
            self._calls += 1
            self._line_up(call)
        return call.future

    def _line_up(self, call: Any) -> None:
        seat = getattr(call, "seat", None)
        own = None if seat is None else seat.threads
        (own or self._threads).put(call)

    # --- around each call, in the thread ----------------------------------------------------------

    def begins(self, seat: Seat | None) -> None:
        with self._lock:
            if seat is None or seat.threads is None:
                self._running = seat

    def ended(self, seat: Seat | None, watch: CallWatch) -> None:
        asyncio.set_event_loop(None)  # a call may have set the thread's
        if watch.ended() and not (seat is not None and self.set_apart_if_running(seat)):
            # No end will come that would clean up.
            give_back("A call after the end of its task" if seat is None else seat.owner)
        with self._lock:
            if self._running is seat:
                self._running = None

    def set_apart_if_running(self, seat: Seat) -> bool:
        """Makes the thread the seat's own if it is in a call of that seat; others get a new one.

        Returns whether the seat has a thread of its own; False if it was left.
        """
        with self._lock:
            if seat.threads is not None:
                return True
            if seat.left or self._running is not seat:
                return False
            seat.threads, self._threads = self._threads, self._new_thread()
            self._apart.add(seat.threads)
            self._running = None
            for call in seat.threads.take_back():
                self._line_up(call)
            return True

    # --- attempts come and go ---------------------------------------------------------------------

    def enter(self, owner: object) -> Seat:
        if not self.attempts:
            self._give_back_at = time.monotonic() + GIVE_BACK_AFTER
        self.attempts += 1
        return Seat(self, owner)

    def left_by(self, seat: Seat) -> None:
        """Cleans the seat's own thread; and the shared one, if the lane is idle or it is time."""
        with self._lock:
            self.attempts -= 1
            seat.left = True
            own, seat.threads = seat.threads, None
            if self._calls > self._calls_given_back and (
                not self.attempts or time.monotonic() >= self._give_back_at
            ):
                self._calls_given_back = self._calls
                self._give_back_at = time.monotonic() + GIVE_BACK_AFTER
                self._threads.put(partial(give_back, self._name))
        if own is not None:
            own.put(partial(give_back, seat.owner))
            own.shutdown()

    def close(self) -> list[DaemonThreads]:
        """Takes no more calls. Returns the threads, which are to be shut down."""
        SyncToAsync.context_to_thread_executor.pop(self.sensitive, None)
        with self._lock:
            return [self._threads, *self._apart]


class OrmThreads:
    """A few lanes; an attempt enters the least busy one."""

    def __init__(self, count: int) -> None:
        self._lanes = [OrmThread(number) for number in range(1, count + 1)]

    def least_busy(self) -> OrmThread:
        best = self._lanes[0]
        for lane in self._lanes:
            if lane.attempts < best.attempts:
                best = lane
        return best

    def close(self) -> list[DaemonThreads]:
        """Closes every lane. Returns their threads, which are to be shut down."""
        return [threads for lane in self._lanes for threads in lane.close()]
