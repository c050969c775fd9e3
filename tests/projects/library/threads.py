"""The threads of runtimes, in the tests of the testing tools."""

from __future__ import annotations

import threading


def threads_of_runtimes() -> list[str]:
    """Returns the names of those that have not ended.

    One that has reported its end is in its last step for a moment more.
    """
    threads = [it for it in threading.enumerate() if it.name.startswith("rail-tasks")]
    for thread in threads:
        thread.join(10)
    return [it.name for it in threads if it.is_alive()]
