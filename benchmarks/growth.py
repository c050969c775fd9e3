"""Does it stay as fast beside a million waiting rows, and beside millions of finished ones?"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import sync_to_async

from benchmarks.harness import Case, Question, Target

# Rows that are waiting, and finished ones. A larger number takes minutes and gigabytes.
WAITING: Final = 1_000_000
FINISHED: Final = int(os.environ.get("BENCHMARK_ROWS", "3000000"))
FEW: Final = 1000


async def drain_many(count: int, rows: int) -> dict[str, float]:
    """Runs `count` of the rows that wait, while all the others go on waiting."""
    return await _drain(count, rows)


async def drain_few(count: int, rows: int) -> dict[str, float]:
    """The same where few are left at the end."""
    return await _drain(count, FEW)


async def _drain(count: int, left: int) -> dict[str, float]:
    from benchmarks import rows
    from benchmarks.tasks import tally
    from rail_async_tasks.hosting import process as host
    from rail_async_tasks.models import TaskExecution

    there = await TaskExecution.objects.filter(status="pending").acount()
    first = max(count // 10, 1)  # before the clock begins
    await sync_to_async(rows.waiting)(max(left + count + first - there, 0))
    tally.expect(first)
    await host.aruntime()
    await tally.complete()
    tally.expect(count)
    begun, cpu = time.perf_counter(), time.process_time()
    await tally.complete()
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    await host.astop()
    return {"tasks/s": count / seconds, "CPU µs/task": cpu_seconds / count * 1e6}


async def reads_of_many(count: int, rows: int) -> dict[str, float]:
    """Lists, claims and counters beside so many finished rows."""
    return await _reads(count, rows)


async def reads_of_few(count: int, rows: int) -> dict[str, float]:
    """The same beside a thousand."""
    return await _reads(count, FEW)


async def _reads(count: int, finished: int) -> dict[str, float]:
    return await sync_to_async(_read)(count, finished)


def _read(count: int, finished: int) -> dict[str, float]:
    from benchmarks import rows
    from rail_async_tasks.dashboard.counters import read_counters
    from rail_async_tasks.hosting import process as host
    from rail_async_tasks.ledger.records import Page
    from rail_async_tasks.models import TaskExecution

    if not TaskExecution.objects.exists():  # the warm-up has left them
        rows.finished(finished)
    rows.waiting(10 * count)
    ledger = host.ledger()
    middle = TaskExecution.objects.filter(status="completed").order_by("id")
    after = middle.values_list("id", flat=True)[FEW // 2]
    calls: dict[str, Callable[[], Any]] = {
        "own list ms": lambda: ledger.page(Page(limit=50, owner_id="7")),
        "list ms": lambda: ledger.page(Page(limit=50, everyone=True)),
        "list by state ms": lambda: ledger.page(Page(limit=50, everyone=True, status="failed")),
        "last page ms": lambda: ledger.page(Page(limit=50, everyone=True, after=after)),
        "claim of 10 ms": _claimer(),
        "admission's count ms": lambda: ledger.count_waiting(None, 10_000),
        "dashboard's counters ms": lambda: read_counters("default"),
    }
    return {name: _milliseconds(call, count) for name, call in calls.items()}


def _claimer() -> Callable[[], object]:
    """Returns what claims ten rows as a runtime's writer does, on a connection of its own."""
    from uuid import uuid4

    from django.db import connection

    from rail_async_tasks.db_connections import DriverCursor
    from rail_async_tasks.ledger.operations import Claim
    from rail_async_tasks.ledger.vendors import batch_on
    from rail_async_tasks.runtime.claims.plan import NO_LIMIT, Plan

    cursor = DriverCursor(connection)

    def claim() -> object:
        plan = Plan(
            runtime_id=uuid4(), wanted={("default", False): None}, free={False: 10, True: 0},
            queue_free={"default": NO_LIMIT}, total=10, names={False: ("noop",), True: ()},
        )  # fmt: skip
        result = batch_on(connection).claim(cursor, Claim(plan, uuid4(), lambda result: None))
        assert len(result.claimed) == 10
        return result

    return claim


def _milliseconds(call: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1000


QUESTION = Question(
    name="growth",
    title="Beside a million waiting rows, and beside millions of finished ones, on PostgreSQL",
    beside="the same beside a thousand rows",
    cases=[
        Case(
            label=f"{WAITING:,} waiting",
            measure=f"{__name__}:drain_many",
            beside=f"{__name__}:drain_few",
            parameters={"count": 10_000, "rows": WAITING},
            quick={"count": 50, "rows": 2000},
            database="postgres-flushed",
            settings={"max_pending": None},
            targets={"tasks/s": Target(0.9, of_ratio=True)},
        ),
        Case(
            label=f"{FINISHED:,} finished",
            measure=f"{__name__}:reads_of_many",
            beside=f"{__name__}:reads_of_few",
            parameters={"count": 20, "rows": FINISHED},
            database="postgres",
        ),
    ],
    repeats=1,
)
