"""The threads in which `async def` bodies make their ORM calls.

A few bodies share a thread, call by call, and its connections with it. A body that leaves a
transaction open between two calls, or that waits for another task inside a call, keeps the thread
for itself from there on; the others go on in a new one.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from rail_async_tasks.runtime.attempts.leftovers import (
    ConnectionWatch,
    give_back,
    left_between_calls,
)
from rail_async_tasks.runtime.attempts.threads import DaemonThreads

T = TypeVar("T")


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
        self.left = True
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
        watch = None if self.seat is None or not self.seat.is_wary else ConnectionWatch()
        try:
            result = self.function()
        except BaseException as error:
            self.lane.ended(self.seat, watch)
            self.future.set_exception(error)
        else:
            self.lane.ended(self.seat, watch)
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

    def ended(self, seat: Seat | None, watch: ConnectionWatch | None = None) -> None:
        touched = watch is not None and watch.ended()
        if touched and seat is not None:
            self.set_apart_if_running(seat)
        if left_between_calls():
            if seat is None or seat.left:  # no end will come that would roll it back
                give_back("A call after the end of its task" if seat is None else seat.owner)
            else:
                self.set_apart_if_running(seat)
        with self._lock:
            if self._running is seat:
                self._running = None

    def set_apart_if_running(self, seat: Seat) -> None:
        """Makes the thread the seat's own if it is in a call of that seat; others get a new one."""
        with self._lock:
            if self._running is not seat or seat.threads is not None:
                return
            seat.threads, self._threads = self._threads, self._new_thread()
            self._apart.add(seat.threads)
            self._running = None
            for call in seat.threads.take_back():
                self._line_up(call)

    # --- attempts come and go ---------------------------------------------------------------------

    def enter(self, owner: object) -> Seat:
        self.attempts += 1
        return Seat(self, owner)

    def left_by(self, seat: Seat) -> None:
        """Only an idle lane gives its connections back: another attempt may be reading a cursor."""
        with self._lock:
            self.attempts -= 1
            own, seat.threads = seat.threads, None
            if not self.attempts and self._calls > self._calls_given_back:
                self._calls_given_back = self._calls
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
