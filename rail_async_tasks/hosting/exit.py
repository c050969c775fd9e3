"""The ends of a process: signals, a timer after the drain, and the interpreter's own end."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Final

from django.utils.autoreload import DJANGO_AUTORELOAD_ENV

from rail_async_tasks.conf import get_settings
from rail_async_tasks.forks import after_fork
from rail_async_tasks.safe_logging import get_logger, shut_down
from rail_async_tasks.vital import make_vital

logger = get_logger("rail_async_tasks.runtime")

# The time that the process gets beyond `drain_seconds` to end by itself, in seconds.
EXIT_TIMEOUT: Final = 1.9
# The time that log handlers get to write what they hold, in seconds.
LOG_TIMEOUT: Final = 1.0

# Called with: whether the signal is another Ctrl-C, and the handler that was there before.
React = Callable[[bool, Callable[[], object]], None]


def chain_signals(react: React) -> None:
    """Have `react` called at SIGTERM and Ctrl-C, in place of the handlers of the server.

    Another Ctrl-C is from a person who does not want to wait. Another SIGTERM means nothing: where
    processes have a parent, both the parent and the supervisor may send one.
    """
    interrupted = False

    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)
        if not callable(previous):  # nothing would end the process after the drain
            continue

        def handle(
            number: int,
            frame: FrameType | None,
            previous: Callable[[int, FrameType | None], object] = previous,
        ) -> None:
            nonlocal interrupted
            again = interrupted and number == signal.SIGINT
            interrupted |= number == signal.SIGINT
            react(again, partial(previous, number, frame))

        signal.signal(number, handle)


# --- the timer -----------------------------------------------------------------------------------


class _Timer:
    """The exit timer of this process, if it runs."""

    def __init__(self) -> None:
        self.timer: threading.Timer | None = None


_exit = _Timer()


def _reset() -> None:
    global _exit
    _exit = _Timer()


after_fork(_reset)


def exit_in_time() -> bool:
    """End this process a little after the drain, should anything still hold it up then.

    By then every outcome is stored, or its row is for others to recover. From any thread. Returns
    whether this call has started the timer.
    """
    if _exit.timer is not None:
        return False
    _exit.timer = threading.Timer(get_settings().drain_seconds + EXIT_TIMEOUT, _exit_now)
    _exit.timer.daemon = True
    _exit.timer.start()
    return True


def call_off_exit() -> None:
    """Stop the timer: only a server in this process has ended, and in good order."""
    if _exit.timer is not None:
        _exit.timer.cancel()
        _exit.timer = None


def exit_is_timed() -> bool:
    """Returns whether the timer runs."""
    return _exit.timer is not None


def _exit_now() -> None:
    end_at_once("The process has not ended in time after its drain; it is ended now")


def end_at_once(message: str) -> None:
    """Log the message as critical and end this process with exit code 1. From any thread."""
    make_vital()  # a log handler that blocks must not keep the process alive
    logger.critical(message)
    shut_down(LOG_TIMEOUT)
    os._exit(1)


# --- the interpreter -----------------------------------------------------------------------------


def when_process_ends(end: Callable[[], None]) -> None:
    """Have `end` called in the main thread while threads still run. It may be called twice."""
    # The second call is for what threads have started that outlive the main thread.
    atexit.register(end)
    # The first call comes before the thread pools of `concurrent.futures` close: bodies may need
    # the pools to their end, and `atexit` would find them closed.
    with contextlib.suppress(AttributeError, RuntimeError):
        threading._register_atexit(end)  # type: ignore[attr-defined]  # noqa: SLF001


def reloading() -> bool:
    """Returns whether this is Django's development server, which reloads when a file changes."""
    return os.environ.get(DJANGO_AUTORELOAD_ENV) == "true"
