"""Threads that HTTP requests use one after another, each request one for itself.

Django gives each request under ASGI a `ThreadSensitiveContext`, in which asgiref makes a thread at
the first synchronous call, and another one that waits for its end: two threads to start for each
request, as Django's own signals are synchronous. A context that is there before is used in place
of Django's. Its thread is one that an earlier request has left; as under WSGI, a database
connection in it lives as long as `CONN_MAX_AGE` says.

A thread is used again only if the last call in it ended a request, by Django's `request_finished`,
and left no transaction open. A view that was cancelled may leave one, or go on in the thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.core.signals import request_finished
from django.db import connections

from rail_async_tasks.forks import after_fork
from rail_async_tasks.servers.protocol import Application, Receive, Scope, Send

# Threads that wait for a request, and how long each waits (seconds). Each may have a connection.
MOST_IDLE: Final = 8
IDLE_SECONDS: Final = 2.0


class _Call(threading.local):
    """The call that this thread makes."""

    ended_a_request = False


_call: Final = _Call()


def _request_ends(**_: Any) -> None:
    _call.ended_a_request = True


request_finished.connect(_request_ends)


class RequestThread(ThreadPoolExecutor):
    """One thread, started at the first call, that knows whether it is at work."""

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="rail-tasks-request")
        self._last: Future[Any] | None = None
        self._calls = 0
        self._clean_after = 0  # so many calls

    @property
    def is_clean(self) -> bool:
        """Whether the next request finds nothing of the last one: neither calls nor a transaction.

        False while a call runs or waits.
        """
        return self._clean_after == self._calls

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._calls += 1
        self._last = super().submit(self._run, self._calls, fn, *args, **kwargs)
        return self._last

    def _run(self, number: int, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        _call.ended_a_request = False
        try:
            return fn(*args, **kwargs)
        finally:
            opened = connections.all(initialized_only=True)
            if _call.ended_a_request and not any(it.in_atomic_block for it in opened):
                self._clean_after = number

    def when_idle(self, call: Callable[[], None]) -> None:
        """Calls in this loop, at once or after the last call: a view may outlive its request."""
        if self._last is None or self._last.done():
            call()
            return
        loop = asyncio.get_running_loop()

        def ended(_: object) -> None:
            try:
                loop.call_soon_threadsafe(call)
            except RuntimeError:  # the loop is closed, the thread of no more use
                self.shutdown(wait=False)

        self._last.add_done_callback(ended)


class IdleThreads:
    """Threads that requests have left, the newest last. Used in event loops only."""

    def __init__(self) -> None:
        self._threads: list[tuple[float, RequestThread]] = []
        self._trimming: asyncio.AbstractEventLoop | None = None  # has a timer

    def __len__(self) -> int:
        return len(self._threads)

    def take(self) -> RequestThread:
        """Returns the thread that was left last, or a new one."""
        return self._threads.pop()[1] if self._threads else RequestThread()

    def leave(self, thread: RequestThread) -> None:
        """Takes a thread whose last call is over; ends it a while later.

        At once where it is not clean, or where enough wait.
        """
        if not thread.is_clean or len(self._threads) >= MOST_IDLE:
            thread.shutdown(wait=False)
            return
        loop = asyncio.get_running_loop()
        self._threads.append((loop.time(), thread))
        if self._trimming is not loop:
            self._trimming = loop
            loop.call_later(IDLE_SECONDS, self._trim, loop)

    def _trim(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends the threads that have waited for too long, and looks again where some are left."""
        while self._threads and self._threads[0][0] <= loop.time() - IDLE_SECONDS:
            self._threads.pop(0)[1].shutdown(wait=False)
        self._trimming = loop if self._threads else None
        if self._threads:
            loop.call_later(IDLE_SECONDS, self._trim, loop)

    def forget(self) -> None:
        """Forgets the threads, which a forked child does not have."""
        self._threads, self._trimming = [], None


_idle: Final = IdleThreads()


async def served_by_a_thread(
    application: Application, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serves one request, whose synchronous calls are made in one thread, as in Django's own."""
    context = ThreadSensitiveContext()
    async with context:
        if SyncToAsync.thread_sensitive_context.get() is not context:
            await application(scope, receive, send)  # there is one around us
            return
        thread = _idle.take()
        SyncToAsync.context_to_thread_executor[context] = thread
        try:
            await application(scope, receive, send)
        finally:
            # Removed before the context ends, which would wait for the thread's end.
            SyncToAsync.context_to_thread_executor.pop(context, None)
            thread.when_idle(lambda: _idle.leave(thread))


after_fork(_idle.forget)
