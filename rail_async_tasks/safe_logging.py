"""Loggers whose calls never raise and, in a vital thread or on a loop, never wait for a lock.

Handlers, filters and formatters are the project's code. A filter that raises does so out of the
logging call, and one such warning would end the thread that only wanted to report a lost
connection. A record that can't be logged is reported on stderr, once per logger and type of error.

Vital threads (see `vital`) hand their records to a thread of their own kind, which lives while
there are records: a handler that blocks for seconds, or that holds its lock meanwhile, must not
cost the lease. An event loop does the same while a handler is at work in another thread: that
handler may start a task, which waits for the loop, and the loop would wait for the handler's lock.
Every other call logs where it is made, as the standard library does.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from django.db import connections

from rail_async_tasks.forks import after_fork
from rail_async_tasks.hooks import asks_to_end
from rail_async_tasks.vital import is_vital

# Records that wait for a handler. Vital threads log changes, not each statement.
MOST_WAITING: Final = 1000


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger of the standard library, as `logging.getLogger` returns it, behind a guard."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs  # an adapter's own would put its `extra` in place of the call's

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        try:
            if not self.logger.isEnabledFor(level):
                return
            # This frame is not the caller that the record is to name.
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
            if is_vital():
                self._log_elsewhere(level, msg, args, kwargs)
            elif not _is_on_loop():
                self.logger.log(level, msg, *args, **kwargs)
            else:
                with _idle_handlers(self.logger) as idle:
                    if idle and not _background.from_loops:
                        self.logger.log(level, msg, *args, **kwargs)
                        return
                self._log_elsewhere(level, msg, args, kwargs)
        except BaseException as error:
            if asks_to_end(error):
                raise
            _report(self.logger.name, error)

    def _log_elsewhere(
        self, level: int, msg: object, args: tuple[object, ...], kwargs: dict[str, Any]
    ) -> None:
        kwargs["stacklevel"] += 1
        record = self._record(level, msg, args, **kwargs)
        _background.put(self.logger, record, from_loop=_is_on_loop())

    def _record(
        self,
        level: int,
        msg: object,
        args: tuple[object, ...],
        *,
        stacklevel: int,
        exc_info: Any = None,
        extra: Any = None,
        stack_info: bool = False,
    ) -> logging.LogRecord:
        path, line, function, stack = self.logger.findCaller(stack_info, stacklevel + 1)
        if isinstance(exc_info, BaseException):
            exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        elif exc_info and not isinstance(exc_info, tuple):
            exc_info = sys.exc_info()
        return self.logger.makeRecord(
            self.logger.name, level, path, line, msg, args, exc_info or None,
            function, extra, stack,
        )  # fmt: skip


def get_logger(name: str) -> SafeLogger:
    """Returns the logger of that name, behind the guard. Replaces `logging.getLogger`."""
    return SafeLogger(logging.getLogger(name), {})


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def _idle_handlers(logger: logging.Logger) -> Iterator[bool]:
    """Holds the locks of the logger's handlers; yields False if another thread has one."""
    with ExitStack() as held:
        for handler in _handlers_of(logger):
            if handler.lock is None:
                continue
            if not handler.lock.acquire(blocking=False):
                held.close()
                yield False
                return
            held.callback(handler.lock.release)
        yield True


def _handlers_of(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yields the handlers that a record of the logger reaches."""
    at: logging.Logger | None = logger
    while at is not None:
        yield from at.handlers
        at = at.parent if at.propagate else None


@dataclass(slots=True)
class _Waiting:
    logger: logging.Logger
    record: logging.LogRecord
    context: contextvars.Context
    from_loop: bool


class _Background:
    """Handles records in a daemon thread, in their order, each in the context of its call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[_Waiting] = deque(maxlen=MOST_WAITING)
        self.from_loops = 0  # records of event loops that are not handled yet: the next ones follow
        self._thread: threading.Thread | None = None

    def put(self, logger: logging.Logger, record: logging.LogRecord, *, from_loop: bool) -> None:
        """Adds a record and never waits. When full, drops the oldest one."""
        with self._lock:
            if len(self._records) == MOST_WAITING:
                self.from_loops -= self._records[0].from_loop
            waiting = _Waiting(logger, record, contextvars.copy_context(), from_loop)
            self._records.append(waiting)
            self.from_loops += from_loop
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="rail-tasks-log", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._records:
                    self._thread = None
                    break
                waiting = self._records.popleft()
            try:
                waiting.context.run(waiting.logger.handle, waiting.record)
            except BaseException as error:  # noqa: BLE001 - see `SafeLogger`
                _report(waiting.logger.name, error)
            with self._lock:
                self.from_loops -= waiting.from_loop
            # Or the frames of its traceback would live on while the next one is handled.
            del waiting
        with suppress(Exception):
            connections.close_all()  # a handler may have stored its records by the ORM

    def flush(self, seconds: float) -> None:
        """Returns once the records are handled, or after that time."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(seconds)


_background = _Background()


def flush(seconds: float) -> None:
    """Waits until the records of vital threads are handled, at most `seconds`."""
    _background.flush(seconds)


def shut_down(seconds: float) -> None:
    """Runs `logging.shutdown()` in at most `seconds`, whatever a handler does."""
    deadline = time.monotonic() + seconds
    flush(seconds)
    ending = threading.Thread(target=logging.shutdown, name="rail-tasks-log-end", daemon=True)
    with suppress(RuntimeError):  # no thread can start
        ending.start()
        ending.join(max(deadline - time.monotonic(), 0.0))


_reported: set[tuple[str, type[BaseException]]] = set()


def _report(name: str, error: BaseException) -> None:
    """Reports a lost record on stderr, the last place that is left."""
    if (name, type(error)) in _reported:
        return
    _reported.add((name, type(error)))
    with suppress(Exception):
        sys.stderr.write(
            f"rail_async_tasks: logging to {name!r} failed and a record is lost. Mend the filter,"
            " handler or formatter below, which LOGGING names. This error is reported once.\n"
        )
        traceback.print_exception(error, file=sys.stderr)


def _start_afresh() -> None:
    """Replaces thread and lock in a forked child: the parent may have held the lock."""
    global _background
    _background = _Background()


after_fork(_start_afresh)
