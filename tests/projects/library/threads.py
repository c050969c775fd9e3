"""The threads of runtimes, in the tests of the testing tools."""

from __future__ import annotations

import threading


def threads_of_runtimes() -> list[str]:
    """Returns the names of the threads that are still alive.

    A thread reports its end before its last step, so each gets a moment to take that.
    """
    threads = [it for it in threading.enumerate() if it.name.startswith("rail-tasks")]
    for thread in threads:
        thread.join(10)
    return [it.name for it in threads if it.is_alive()]
