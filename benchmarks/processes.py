"""The processes beside the one that takes a sample: workers, and what they use of the CPU."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT = 300.0  # seconds for workers to be there, on a busy machine
STOP_TIMEOUT = 60.0  # seconds for a worker to end by itself


@contextmanager
def running(
    command: Sequence[str], count: int = 1, environment: Mapping[str, str] | None = None
) -> Iterator[list[int]]:
    """So many processes of `python COMMAND`; yields their ids. Ends them and waits.

    What they print goes to the error output: the last line of the other is the metrics'.
    """
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env={**os.environ, **(environment or {})},
        )
        for _ in range(count)
    ]
    try:
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                for pid in family([process.pid]):
                    os.kill(pid, signal.SIGKILL)
                process.wait()


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


def family(pids: Sequence[int]) -> list[int]:
    """Returns these processes and all that descend from them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = list(pids)
    for pid in found:  # grows while it is read
        found += children.get(pid, [])
    return found


def ended(pids: Sequence[int]) -> bool:
    """Whether one of these is no more."""
    return any(_stat(pid)[:1] in ([], ["Z"]) for pid in pids)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Returns the seconds that they have used so far, in user and kernel mode."""
    ticks = 0
    for pid in pids:
        if fields := _stat(pid):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of the kernel's line on a process after its name; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
