"""The processes beside the one that takes a sample: workers, and what they use of the CPU."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT = 300.0  # seconds for workers to be there, on a busy machine


@contextmanager
def running(command: Sequence[str], count: int) -> Iterator[list[int]]:
    """So many processes that run the same; yields their ids. Ends them and waits."""
    started = [
        subprocess.Popen([sys.executable, *command], stdin=subprocess.DEVNULL) for _ in range(count)
    ]
    try:
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(START_TIMEOUT)


@contextmanager
def task_workers(count: int) -> Iterator[list[int]]:
    """`manage.py task_worker`, so often."""
    with running(("-m", "django", "task_worker"), count) as pids:
        yield pids


async def at_work(count: int) -> None:
    """Returns when so many workers, and this process, are in the ledger."""
    from rail_async_tasks.models import TaskRuntime

    async with asyncio.timeout(START_TIMEOUT):
        while await TaskRuntime.objects.filter(dead=False).acount() < count + 1:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Returns the seconds that they have used so far, in user and kernel mode."""
    ticks = 0
    for pid in pids:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_name[11]) + int(after_name[12])
    return ticks / os.sysconf("SC_CLK_TCK")
