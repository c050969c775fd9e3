"""Threads that HTTP requests use one after another, each request one for itself.

Django gives each request under ASGI a `ThreadSensitiveContext`, in which asgiref makes a thread at
the first synchronous call, and another one that waits for its end: two threads to start for each
request, as Django's own signals are synchronous. A context that is there before is used in place
of Django's. Its thread is one that an earlier request has left; as under WSGI, a database
connection in it lives as long as `CONN_MAX_AGE` says.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from rail_async_tasks.forks import after_fork
from rail_async_tasks.servers.protocol import Application, Receive, Scope, Send

# Threads that wait for a request; those of a burst end after it. Each may have a connection.
MOST_IDLE: Final = 8


class RequestThread(ThreadPoolExecutor):
    """One thread, started at the first call, that knows whether it is at work."""

    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="rail-tasks-request")
        self._last: Future[Any] | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._last = super().submit(fn, *args, **kwargs)
        return self._last

    def when_idle(self, call: Callable[[], None]) -> None:
        """Calls at once, or in the thread after its last call: a view may outlive its request."""
        if self._last is None or self._last.done():
            call()
        else:
            self._last.add_done_callback(lambda _: call())


_idle: Final[list[RequestThread]] = []


async def served_by_a_thread(
    application: Application, scope: Scope, receive: Receive, send: Send
) -> None:
    """Serves one request, whose synchronous calls are made in one thread, as in Django's own."""
    context = ThreadSensitiveContext()
    async with context:
        if SyncToAsync.thread_sensitive_context.get() is not context:
            await application(scope, receive, send)  # there is one around us
            return
        thread = _taken()
        SyncToAsync.context_to_thread_executor[context] = thread
        try:
            await application(scope, receive, send)
        finally:
            # Removed before the context ends, which would wait for the thread's end.
            SyncToAsync.context_to_thread_executor.pop(context, None)
            thread.when_idle(lambda: _give_back(thread))


def _taken() -> RequestThread:
    try:
        return _idle.pop()
    except IndexError:
        return RequestThread()


def _give_back(thread: RequestThread) -> None:
    if len(_idle) < MOST_IDLE:
        _idle.append(thread)
    else:
        thread.shutdown(wait=False)


# A forked child has the objects, but none of their threads.
after_fork(_idle.clear)
