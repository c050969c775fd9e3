"""The distributed demo as a family of processes."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.browser.demo import Demo


class DistributedDemo(Demo):
    """`python -m devservers.distributed` with a folder of its own."""

    MODULE = "devservers.distributed"

    def pids(self) -> dict[str, int]:
        """Returns each process's latest id by its name, as printed."""
        said = re.findall(
            r"^(?: {4})?(\w+(?: \d)?) +(?:runs again as )?pid (\d+)", self.output, re.MULTILINE
        )
        return {name: int(pid) for name, pid in said}

    def family(self) -> list[int]:
        """The pids of the supervisor and of all that it has started, the nearest first."""
        found = [self.process.pid]
        for pid in found:
            found += children(pid)
        return found

    def keepers(self) -> list[int]:
        return children(self.process.pid)

    def stop(self, seconds: float) -> float:
        """Ctrl-C; gives back how long the supervisor took to end. Raises `TimeoutExpired`."""
        asked = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(seconds)
        return time.monotonic() - asked

    def kill(self) -> None:
        """Ends all of it. The rest would end by itself, but a failed test must not rely on that."""
        left = self.family() if self.process.poll() is None else []
        super().kill()
        gone(left, seconds=30)


def children(pid: int) -> list[int]:
    """Returns the ids of a process's children that have not ended."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += [int(word) for word in listed.read_text().split()]
    return found


def lives(pid: int) -> bool:
    """Returns whether there is such a process, which has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids: list[int], seconds: float) -> bool:
    """Returns whether all have ended within this time; kills the rest."""
    deadline = time.monotonic() + seconds
    while any(lives(pid) for pid in pids):
        if time.monotonic() > deadline:
            for pid in filter(lives, pids):
                os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.05)
    return True


@contextmanager
def running_distributed(folder: Path, **options: Any) -> Iterator[DistributedDemo]:
    """A demo that is ended in any case."""
    demo = DistributedDemo(folder, **options)
    try:
        yield demo
    finally:
        demo.kill()
