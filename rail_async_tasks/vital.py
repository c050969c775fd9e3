"""Threads of ours that must never wait for code of the project: writers, lease, watchdog.

While one of them waits, nothing is stored or the lease runs out. So a call in one of them that
would wait for the runtime is refused, and their log records are handled in another thread.
"""

from __future__ import annotations

import threading
from typing import Final

_thread: Final = threading.local()


def make_vital() -> None:
    """Mark the calling thread, for as long as it lives."""
    _thread.is_vital = True


def is_vital() -> bool:
    """Whether the calling thread is marked."""
    return getattr(_thread, "is_vital", False)


def refuse_if_vital(what: str) -> None:
    """Refuse `what`, a call that waits for the runtime, in a thread that the runtime waits for.

    Raises:
        RuntimeError: the calling thread is a vital one.
    """
    if is_vital():
        raise RuntimeError(
            f"{what} was called in the thread {threading.current_thread().name!r} of the task"
            " runtime, which would wait for itself. Receivers of Django's signals and database"
            " instrumentation run in that thread: start the task from a thread of your own."
        )
