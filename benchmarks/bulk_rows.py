"""How many rows a second does `aenqueue_many` store, and what does the process grow by?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Case, Question, Target

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


async def ours(count: int) -> dict[str, float]:
    """From a generator of calls; their queue is paused, so that nothing else runs."""
    from benchmarks.tasks import noted
    from rail_async_tasks import queues
    from rail_async_tasks.models import TaskExecution

    await queues.apause("low")
    later = noted.using(queue="low")
    await later.aenqueue_many(_calls(10))
    before = await TaskExecution.objects.acount()
    resident = _resident()
    begun, cpu = time.perf_counter(), time.process_time()
    handles = await later.aenqueue_many(_calls(count))
    metrics = _metrics(count, begun, cpu)
    metrics["KiB/row"] = max(_resident() - resident, 1024) / count / 1024
    assert len(handles) == count
    assert await TaskExecution.objects.acount() - before == count
    return metrics


def _calls(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"number": number, "text": "small"}


def bare(count: int) -> dict[str, float]:
    """The same rows by the bare driver."""
    from benchmarks.raw import BATCH, Raw

    raw = Raw()
    resident = _resident()
    begun, cpu = time.perf_counter(), time.process_time()
    for first in range(0, count, BATCH):
        raw.insert_many(raw.new_rows(min(BATCH, count - first)))
    metrics = _metrics(count, begun, cpu)
    metrics["KiB/row"] = max(_resident() - resident, 1024) / count / 1024
    raw.connection.close()
    return metrics


def _metrics(count: int, begun: float, cpu: float) -> dict[str, float]:
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    return {"rows/s": count / seconds, "CPU µs/row": cpu_seconds / count * 1e6}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def _case(label: str, database: str, count: int, *, quick: bool = False, least: int = 0) -> Case:
    return Case(
        label=f"{label}, {count:,} rows",
        measure=f"{__name__}:ours",
        beside=f"{__name__}:bare",
        parameters={"count": count},
        quick={"count": 300} if quick else None,
        database=database,
        settings={"max_pending": None},
        targets={"rows/s": Target(least)} if least else {},
    )


QUESTION = Question(
    name="bulk_rows",
    title="`aenqueue_many` of small arguments, in one transaction",
    beside="the same rows by the bare driver, 500 at a time, on one connection",
    cases=[
        _case("PostgreSQL, flushed", "postgres-flushed", 100_000, least=40_000),
        _case("PostgreSQL, flushed", "postgres-flushed", 1_000_000),
        _case("SQLite", "sqlite", 100_000, quick=True),
    ],
    repeats=3,
)
