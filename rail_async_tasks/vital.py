"""Marks threads that must never wait for the project's code: writers, lease, watchdog.

While one of them waits, nothing is stored or the lease runs out. So a call in one of them that
would wait for the runtime is refused, and their log records are handled in another thread.
"""

from __future__ import annotations

import threading
from typing import Final

_thread: Final = threading.local()


def make_vital() -> None:
    """Marks the calling thread, for as long as it lives."""
    _thread.is_vital = True


def is_vital() -> bool:
    """Returns whether the calling thread is marked."""
    return getattr(_thread, "is_vital", False)


def refuse_if_vital(what: str) -> None:
    """Raises in a vital thread: `what` would wait for the runtime, which waits for the thread.

    Raises:
        RuntimeError: the calling thread is a vital one.
    """
    if is_vital():
        raise RuntimeError(
            f"{what} was called in the thread {threading.current_thread().name!r} of the task"
            " runtime, which would wait for itself. Receivers of Django's signals and database"
            " instrumentation run in that thread: start the task from a thread of your own."
        )
