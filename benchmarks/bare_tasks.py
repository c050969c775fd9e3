"""The body of the no-ops that Celery, Dramatiq and Django-Q run without us.

It adds a byte to a file, whose size is the number of those that have run.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

FILE = "BENCHMARK_COUNT_FILE"


@cache
def _file(pid: int) -> int:
    return os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND)


def noop() -> None:
    """Nothing, but that it counts."""
    os.write(_file(os.getpid()), b".")


def ended() -> int:
    """Returns how many bodies have run."""
    return Path(os.environ[FILE]).stat().st_size
