"""The runtime's threads: its loop's, and daemon threads that are reused."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from django.db import connections

from rail_async_tasks.db_connections import make_thread_patient
from rail_async_tasks.runtime.attempts.leftovers import give_back
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
        self._alive = 0  # those that shutdown has asked to end too
        self._ending = False
        self.over: Future[None] = Future()  # done when, after `shutdown`, all threads have ended

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

        self.put(call)
        return future

    def put(self, call: Callable[[], None]) -> None:
        """Has a thread make a call that never raises."""
        with self._lock:
            self._calls.put(call)
            self._waiting += 1
            if self._waiting > self._idle and (self._limit is None or self._threads < self._limit):
                self._threads += 1
                self._alive += 1
                self._idle += 1
                name = f"{self._name}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()

    def take_back(self) -> list[Callable[[], None]]:
        """Returns the calls that no thread has begun; they are not made here."""
        with self._lock:
            calls = []
            with suppress(queue.Empty):
                while (call := self._calls.get_nowait()) is not None:
                    self._waiting -= 1
                    calls.append(call)
                self._calls.put(None)  # that of `shutdown`
            return calls

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Ends the threads that are idle; the others end after their call.

        Args:
            wait: whether to return only when all have ended.
        """
        with self._lock:
            threads, self._threads = self._threads, 0
            self._ending = True
            self._signal_if_ended()
        for _ in range(threads):
            self._calls.put(None)
        if wait:
            self.over.result()

    def _signal_if_ended(self) -> None:
        if self._ending and not self._alive and not self.over.done():
            self.over.set_result(None)

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
            give_back(self._name)
            connections.close_all()  # those that last
            with self._lock:
                self._alive -= 1
                self._signal_if_ended()


async def threads_ended(pools: Iterable[DaemonThreads], timeout: float) -> None:
    """Shuts pools down, and waits until their threads have ended and closed their connections.

    Args:
        timeout: seconds. A thread whose call does not return is left behind after them.
    """
    ends = []
    for pool in pools:
        pool.shutdown()
        ends.append(asyncio.wrap_future(pool.over))
    await asyncio.wait(ends, timeout=timeout)


def leaving_nothing(function: Callable[[], T], who: object) -> T:
    """Calls in this thread, and keeps what the call leaves there from the thread's next call.

    Args:
        who: what calls, for the log.
    """
    try:
        return function()
    finally:
        give_back(who)
        asyncio.set_event_loop(None)


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
                except (
                    BaseException
                ):  # for example `SystemExit` of a callback; the runtime lives on it
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
