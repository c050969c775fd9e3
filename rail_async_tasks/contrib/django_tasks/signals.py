"""Django's signals of tasks, sent in the process that enqueues, runs or ends a task.

A receiver that raises is logged by Django and stops nothing: the task is stored, or has run.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final

from rail_async_tasks.contrib.django_tasks import library
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hosting.exit import when_process_ends
from rail_async_tasks.runtime.attempts.threads import DaemonThreads, leaving_nothing
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.django_tasks")

# The end of the process waits so long for receivers, in seconds.
FLUSH_TIMEOUT: Final = 5.0


def enqueued(result: library.TaskResult) -> None:
    """Sends `task_enqueued`."""
    library.task_enqueued.send_robust(_sender(result), task_result=result)


async def aenqueued(result: library.TaskResult) -> None:
    """`enqueued()` from async code: plain receivers run in a thread."""
    await library.task_enqueued.asend_robust(_sender(result), task_result=result)


def started(result: library.TaskResult) -> None:
    """Sends `task_started`."""
    library.task_started.send_robust(_sender(result), task_result=result)


async def astarted(result: library.TaskResult) -> None:
    """`started()` from async code: plain receivers run in a thread."""
    await library.task_started.asend_robust(_sender(result), task_result=result)


def finished(result: library.TaskResult) -> None:
    """Sends `task_finished`."""
    library.task_finished.send_robust(_sender(result), task_result=result)


def _sender(result: library.TaskResult) -> type[library.BaseTaskBackend]:
    return type(library.task_backends[result.backend])


# --- signals of what the runtime's loop has done -------------------------------------------------


class _Thread:
    """One thread that sends signals in order: a receiver may query, which a loop must not."""

    def __init__(self) -> None:
        self._threads = DaemonThreads("rail-tasks-signals", limit=1)
        self._pending: set[Future[None]] = set()

    def send(self, call: Callable[[], None]) -> None:
        run = contextvars.Context().run
        future = self._threads.submit(leaving_nothing, lambda: run(_logged, call), "A signal")
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

    def flush(self) -> None:
        if self._pending:
            wait(set(self._pending), timeout=FLUSH_TIMEOUT)


def _logged(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # the database is away, say
        logger.exception("A signal of a task could not be sent")


_thread = _Thread()
_flushes_at_the_end = False


def _reset() -> None:
    global _thread
    _thread = _Thread()


_flushes_at_the_end = False


after_fork(_reset)


def send_soon(call: Callable[[], None]) -> None:
    """Makes the call in the thread of signals. From any thread; never blocks."""
    _thread.send(call)


def flush() -> None:
    """Waits, for a few seconds, until the signals so far are sent."""
    _thread.flush()


def flush_at_the_end() -> None:
    """Has `flush` called when the process ends. Twice is once."""
    global _flushes_at_the_end
    if not _flushes_at_the_end:
        _flushes_at_the_end = True
        when_process_ends(flush)
