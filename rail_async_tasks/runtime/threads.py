"""The runtime's threads: its loop's, those of `def` bodies, of `async def` bodies' ORM calls."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import close_old_connections, connections

from rail_async_tasks.ledger.connections import make_thread_patient
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(Executor):
    """Daemon threads that are reused: a body that can't be stopped must not hold the exit.

    With no `limit` there are as many as calls at once, a number that who submits keeps small.
    """

    def __init__(self, name: str, limit: int | None = None) -> None:
        self._name = name
        self._limit = limit
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0  # threads that are free, or about to be born free
        self._waiting = 0  # calls that no thread has taken yet
        self._threads = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            self._calls.put(call)
            self._waiting += 1
            if self._waiting > self._idle and (self._limit is None or self._threads < self._limit):
                self._threads += 1
                self._idle += 1
                name = f"{self._name}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Ends the threads that are idle; the others end after their call."""
        with self._lock:
            threads, self._threads = self._threads, 0
        for _ in range(threads):
            self._calls.put(None)

    def _work(self) -> None:
        try:
            try:
                make_thread_patient()
            except Exception:  # a database backend of the project's: its own calls will fail too
                logger.exception("Connections of a thread could not be set up")
            while (call := self._calls.get()) is not None:
                with self._lock:
                    self._waiting -= 1
                    self._idle -= 1
                call()
                del call  # or an idle thread would keep the last call's arguments alive
                with self._lock:
                    self._idle += 1
        finally:
            connections.close_all()


def with_fresh_connections(function: Callable[[], T]) -> T:
    """Calls in this thread between two looks at its connections.

    A dropped connection is replaced and one past its age, or from a pool, is given back: Django
    does this around requests only, and in the request's own thread.
    """
    close_old_connections()
    try:
        return function()
    finally:
        close_old_connections()


class OrmLane:
    """A thread in which the ORM calls of some attempts run, with its connections."""

    def __init__(self, number: int) -> None:
        self._threads = DaemonThreads(f"rail-tasks-orm-{number}", limit=1)
        self._sensitive = ThreadSensitiveContext()
        self._calls = 0
        # As many there were when broken connections were looked for, and when all were given back.
        self._calls_checked = 0
        self._calls_given_back = 0
        self.attempts = 0
        # asgiref looks an executor up by the context's `thread_sensitive_context`.
        SyncToAsync.context_to_thread_executor[self._sensitive] = self  # type: ignore[assignment]

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        self._calls += 1
        return self._threads.submit(fn, *args, **kwargs)

    def enter(self) -> contextvars.Context:
        """A clean context whose thread-sensitive calls run in this lane."""
        self.attempts += 1
        context = contextvars.Context()
        context.run(SyncToAsync.thread_sensitive_context.set, self._sensitive)
        return context

    def leave(self) -> None:
        """Called when an attempt has ended. Looks after the connections where they were used.

        Only an idle lane gives its connections back: another attempt may be reading from a cursor.
        """
        self.attempts -= 1
        if not self.attempts and self._calls > self._calls_given_back:
            self._calls_given_back = self._calls_checked = self._calls
            self._threads.submit(close_old_connections)
        elif self._calls > self._calls_checked:
            self._calls_checked = self._calls
            self._threads.submit(_drop_broken)

    def close(self) -> None:
        self._threads.shutdown()
        SyncToAsync.context_to_thread_executor.pop(self._sensitive, None)


def _drop_broken() -> None:
    """Replaces connections that a failure has left unusable."""
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred and not connection.in_atomic_block:
            if not connection.is_usable():
                connection.close()
            connection.errors_occurred = False


class OrmLanes:
    """A few lanes; an attempt enters the least busy one."""

    def __init__(self, count: int) -> None:
        self._lanes = [OrmLane(number) for number in range(1, count + 1)]

    def least_busy(self) -> OrmLane:
        best = self._lanes[0]
        for lane in self._lanes:
            if lane.attempts < best.attempts:
                best = lane
        return best

    def close(self) -> None:
        for lane in self._lanes:
            lane.close()


class LoopThread:
    """An event loop in a daemon thread of its own."""

    def __init__(self) -> None:
        self._closing = False
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="rail-tasks-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(_report)
        try:
            while not self._closing:
                try:
                    self.loop.run_forever()
                except BaseException:  # `SystemExit` of a callback, say; the runtime lives on it
                    logger.critical("The loop of the task runtime was interrupted", exc_info=True)
        finally:
            self.loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self) -> None:
        self._closing = True
        with suppress(RuntimeError):  # it is closed
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncio's own report, through a guard: a log handler that raises would end the loop."""
    try:
        loop.default_exception_handler(context)
    except BaseException:
        logger.exception("%s", context.get("message"))
