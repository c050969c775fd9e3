"""What do tasks cost that only wait: their time in line, and the memory of each?"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path
from typing import Final

from benchmarks.harness import Case, Question, Target

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


async def sleeps(count: int, at_once: int, seconds: float) -> dict[str, float]:
    """From the first start to the last end; all are stored before."""
    from benchmarks.tasks import settled, sleep, tally

    tally.expect(count)
    begun, cpu = time.perf_counter(), time.process_time()
    await sleep.aenqueue_many([{"seconds": seconds}] * count)
    await tally.complete()
    await settled()
    return _of(count, at_once, seconds, begun, cpu)


async def bare_sleeps(count: int, at_once: int, seconds: float) -> dict[str, float]:
    """Bare asyncio tasks, as many at once."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await asyncio.create_task(asyncio.sleep(seconds))

    begun, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return _of(count, at_once, seconds, begun, cpu)


def _of(count: int, at_once: int, seconds: float, begun: float, cpu: float) -> dict[str, float]:
    took, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    ideal = max(count / at_once, 1.0) * seconds
    return {"of the ideal rate": ideal / took, "CPU µs/task": cpu_seconds / count * 1e6}


async def memory(count: int) -> dict[str, float]:
    """What the process grows by while so many bodies sleep."""
    from benchmarks.tasks import hold, tally
    from rail_async_tasks.hosting import process as host

    await host.aruntime()
    tally.expect(count)
    before = _resident()
    await hold.aenqueue_many({} for _ in range(count))
    await tally.complete()
    gc.collect()
    found = {"KiB/task": (_resident() - before) / count / 1024}
    runtime = host.current()
    assert runtime is not None
    assert runtime.statistics()["running"] == count
    tally.release.set()
    await host.astop()
    return found


async def bare_memory(count: int) -> dict[str, float]:
    """The same of bare asyncio tasks."""
    release = asyncio.Event()
    before = _resident()
    tasks = [asyncio.create_task(_held(release)) for _ in range(count)]
    await asyncio.sleep(0)
    gc.collect()
    found = {"KiB/task": (_resident() - before) / count / 1024}
    release.set()
    await asyncio.gather(*tasks)
    return found


async def _held(release: asyncio.Event) -> None:
    await release.wait()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


QUESTION = Question(
    name="sleeps",
    title="Tasks that wait: 20,000 of a second each, a thousand at once; 100,000 at once",
    beside="bare asyncio tasks",
    cases=[
        Case(
            label="20,000 of 1 s, 1,000 at once",
            measure=f"{__name__}:sleeps",
            beside=f"{__name__}:bare_sleeps",
            parameters={"count": 20_000, "at_once": 1000, "seconds": 1.0},
            quick={"count": 100, "at_once": 50, "seconds": 0.05},
            database="postgres-flushed",
            settings={"max_pending": None, "max_concurrency": 1000},
            targets={"of the ideal rate": Target(0.91)},
        ),
        Case(
            label="100,000 at once, PostgreSQL",
            measure=f"{__name__}:memory",
            beside=f"{__name__}:bare_memory",
            parameters={"count": 100_000},
            database="postgres",
            settings={"max_pending": None, "max_concurrency": 110_000},
        ),
        Case(
            label="100,000 at once, in memory",
            measure=f"{__name__}:memory",
            beside=f"{__name__}:bare_memory",
            parameters={"count": 100_000},
            settings={
                "max_pending": None,
                "max_concurrency": 110_000,
                "track_in_database": False,
            },
        ),
    ],
    repeats=1,
)
