"""The counters at the head of every page, read at most once a second in each process.

Each is one look at an index that goes no further than `MOST` rows, so that they cost the same
beside a thousand tasks and beside a hundred million.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final

from django.db.models import Count, Min, Q, QuerySet

from rail_async_tasks.forks import after_fork
from rail_async_tasks.ledger.rows import clock, in_utc, storable
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.states import Status

MOST: Final = 10_000
# Pending tasks among which the oldest one that is due is looked for: a crowd of delayed tasks is
# not searched to its end.
OLDEST: Final = 1_000
# Completed tasks behind the 95th percentiles.
SAMPLE: Final = 500
FRESH_SECONDS: Final = 1.0
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Counts of tasks and processes. A count over `MOST` is `MOST + 1`. Durations are seconds.

    `oldest` is the age of the oldest pending task that is due; None where none of the `OLDEST`
    oldest is. `wait_p95` and `run_p95` are of the `SAMPLE` newest tasks that completed at their
    first attempt.
    """

    pending: int
    oldest: float | None
    running: int
    retrying: int
    failed: int
    processes: int
    wait_p95: float | None
    run_p95: float | None


def read_counters(alias: str) -> Counters:
    """Reads the counters from the database."""
    rows = TaskExecution.objects.using(alias).order_by()
    at = clock(alias)
    waits, runs = _durations(rows)
    since = storable(at - DAY)
    runtimes = TaskRuntime.objects.using(alias).filter(dead=False, lapses_at__gt=storable(at))
    return Counters(
        pending=_count(rows, status=Status.PENDING),
        oldest=_oldest(rows, at),
        running=_count(rows, status=Status.RUNNING),
        retrying=_count(rows, status=Status.RETRYING),
        failed=_failed(rows, since),
        processes=runtimes.count(),
        wait_p95=_p95(waits),
        run_p95=_p95(runs),
    )


def _count(rows: QuerySet[TaskExecution], **conditions: Any) -> int:
    return rows.filter(**conditions)[: MOST + 1].count()


def _failed(rows: QuerySet[TaskExecution], since: datetime) -> int:
    # Among the newest, in the order of their index, so that failures of long ago are not read.
    newest = rows.filter(status=Status.FAILED).order_by("-id")[: MOST + 1]
    lately = Count("id", filter=Q(completed_at__gte=since))
    count: int = newest.aggregate(count=lately)["count"]
    return count


def _oldest(rows: QuerySet[TaskExecution], at: datetime) -> float | None:
    # In the order of ids, which is that of creation.
    pending = rows.filter(status=Status.PENDING).order_by("id")[:OLDEST]
    oldest = pending.aggregate(oldest=Min("created_at", filter=Q(run_after__isnull=True)))["oldest"]
    return None if oldest is None else max((at - in_utc(oldest)).total_seconds(), 0.0)


def _durations(rows: QuerySet[TaskExecution]) -> tuple[list[float], list[float]]:
    completed = rows.filter(status=Status.COMPLETED).order_by("-id")
    times = completed.values_list("attempts", "created_at", "started_at", "completed_at")[:SAMPLE]
    waits, runs = [], []
    for attempts, created, started, ended in times:
        if attempts == 1 and started is not None and ended is not None:
            waits.append(max((started - created).total_seconds(), 0.0))
            runs.append(max((ended - started).total_seconds(), 0.0))
    return waits, runs


def _p95(values: list[float]) -> float | None:
    return sorted(values)[int(len(values) * 0.95)] if values else None


_lock = Lock()
_known: dict[str, tuple[float, Counters]] = {}


def counters(alias: str) -> Counters:
    """Returns the counters, at most `FRESH_SECONDS` old."""
    with _lock:
        read_at, found = _known.get(alias, (None, None))
        if read_at is None or found is None or time.monotonic() - read_at > FRESH_SECONDS:
            found = read_counters(alias)
            _known[alias] = (time.monotonic(), found)
        return found


def _start_afresh() -> None:
    global _lock, _known
    _lock, _known = Lock(), {}


after_fork(_start_afresh)
