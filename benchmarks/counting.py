"""Counts the bodies that ran, over all processes, at no cost that could be measured.

The count is a file of 8-byte numbers that every process maps into its memory. A process writes one
number only, its own; who waits for the count reads them all.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

FILE = "BENCHMARK_COUNTER"  # the environment variable with the file's path
NUMBERS = 512
SIZE = 8 * NUMBERS
POLL_SECONDS = 0.002


class Counter:
    """The file's numbers. The first is how many of the others are taken."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), SIZE)
        self._numbers = memoryview(self._map).cast("Q")
        self._lock = threading.Lock()
        self._mine = 0
        self._pid = 0

    def add(self) -> None:
        """Count one body, in any thread of any process."""
        with self._lock:
            if self._pid != os.getpid():  # a fork counts for itself
                self._take_a_number()
            self._numbers[self._mine] += 1

    def total(self) -> int:
        return sum(self._numbers[1 : self._numbers[0] + 1])

    def processes(self) -> int:
        """How many processes have counted something."""
        return self._numbers[0]

    async def reaches(self, total: int) -> None:
        """Returns when so many bodies have run."""
        while self.total() < total:  # noqa: ASYNC110 - other processes count
            await asyncio.sleep(POLL_SECONDS)

    def close(self) -> None:
        self._numbers.release()
        self._map.close()
        self._file.close()

    def _take_a_number(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        self._numbers[0] += 1
        self._mine = self._numbers[0]
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._pid = os.getpid()


@contextmanager
def counter() -> Iterator[Counter]:
    """A new count, which the processes that are started within the block find."""
    global _here
    with tempfile.TemporaryDirectory(prefix="benchmarks-count-") as folder:
        path = Path(folder) / "count"
        path.write_bytes(bytes(SIZE))
        os.environ[FILE] = str(path)
        with closing(Counter(path)) as _here:
            yield _here


_here: Counter | None = None


def add() -> None:
    """What the body of every measured task does."""
    global _here
    if _here is None:
        _here = Counter(Path(os.environ[FILE]))
    _here.add()
