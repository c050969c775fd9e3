"""What ends a process: signals, and the interpreter's own end."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

from django.utils.autoreload import DJANGO_AUTORELOAD_ENV

# Called with: the signal is another Ctrl-C, what would be done about the signal otherwise.
React = Callable[[bool, Callable[[], object]], None]


def chain_signals(react: React) -> None:
    """Has `react` called at a signal to stop.

    Another Ctrl-C is from a person who does not want to wait. Another SIGTERM means nothing: where
    processes have a parent, both it and whoever stops it may send one.
    """
    interrupted = False

    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)
        if not callable(previous):  # nobody is there to end the process after the drain
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


def when_process_ends(end: Callable[[], None]) -> None:
    """Has `end` called, in the main thread, while threads still run. It may be called twice."""
    # For what threads have started that outlive the main thread.
    atexit.register(end)
    # Where the thread pools of `concurrent.futures` are told, and before them: bodies may need
    # those to their end, and find them closed when `atexit` has its turn.
    with contextlib.suppress(AttributeError, RuntimeError):
        threading._register_atexit(end)  # type: ignore[attr-defined]  # noqa: SLF001


def reloading() -> bool:
    """Whether this is Django's development server, which begins anew when a file changes."""
    return os.environ.get(DJANGO_AUTORELOAD_ENV) == "true"
