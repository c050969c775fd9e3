"""Statistics from the roll-ups: series for charts, rates of queues, errors by class and place.

What is read here is at most as old as a process keeps its counts to itself
(`RollupTimings.interval`), and lacks what a process that was killed had not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from rail_async_tasks.hosting import process
from rail_async_tasks.ledger.rollups import ErrorSums, Rollups, Sums
from rail_async_tasks.rollups.columns import COUNTS, OUTCOMES, RUNS, WAITS
from rail_async_tasks.rollups.histogram import percentile, total_of

_OUTCOMES: Final = slice(0, len(OUTCOMES))
_WAITS: Final = slice(COUNTS.index(WAITS[0]), COUNTS.index(WAITS[-1]) + 1)
_RUNS: Final = slice(COUNTS.index(RUNS[0]), COUNTS.index(RUNS[-1]) + 1)
_NONE: Final = (0,) * len(COUNTS)

RATE_MINUTES: Final = 5
# The errors that `errors` returns, and for how many hours their counts are shown.
MOST_ERRORS: Final = 100
HOURS: Final = 24


class Window(msgspec.Struct, frozen=True):
    """A time up to now that a chart shows, in steps. Both are seconds."""

    seconds: int
    step: int


WINDOWS: Final = {
    "hour": Window(3600, 60),
    "day": Window(86_400, 600),
    "week": Window(7 * 86_400, 3600),
}


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and percentiles of one time. Durations are seconds, None where nothing was counted."""

    completed: int
    failed: int
    cancelled: int
    retried: int
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None

    @property
    def ended(self) -> int:
        """Executions that have come to their end."""
        return self.completed + self.failed + self.cancelled


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of a window, oldest first, and their total. `key` is a queue or a name, None: all."""

    key: str | None
    steps: Sequence[Summary]
    total: Summary


class Charts(msgspec.Struct, frozen=True, kw_only=True):
    """Series over one window. `starts` are the beginnings of the steps, in seconds since 1970."""

    window: Window
    starts: Sequence[int]
    whole: Series
    parts: Sequence[Series]


class ErrorGroup(msgspec.Struct, frozen=True, kw_only=True):
    """An error by its class and its place. `place` is empty where none is known.

    `failed` counts executions, `retried` attempts that another one followed, since `first_at`.
    `hours` are attempts of the last 24 hours, oldest first. Times are seconds since 1970.
    """

    error: str
    place: str
    names: Sequence[str]
    failed: int
    retried: int
    first_at: int
    last_at: int
    hours: Sequence[int]
    example_id: str | None

    @property
    def lately(self) -> int:
        """Attempts that it has ended in the last 24 hours."""
        return sum(self.hours)


def rollups() -> Rollups | None:
    """Returns the roll-ups; None where tasks are in memory, or the database can't add counts."""
    return process.ledger().rollups()


def charts(
    window: Window, by: str, *, queue: str | None = None, name: str | None = None
) -> Charts | None:
    """Returns the series of a window, all together and by "queue" or "name", the busiest first.

    None without roll-ups. Blocks.
    """
    source = rollups()
    if source is None:
        return None
    step = window.step
    last = int(source.now()) // step * step
    starts = range(last - window.seconds + step, last + 1, step)
    rows = source.sums(step, starts[0], by=by, queue=queue, name=name)
    parts: dict[str, dict[int, Sums]] = {}
    for row in rows:
        parts.setdefault(row.by or "", {})[row.start] = row
    whole = {
        start: Sums(start, None, total_of([it.counts for it in rows if it.start == start]))
        for start in {row.start for row in rows}
    }
    found = [_series(key, steps, starts) for key, steps in parts.items()]
    found.sort(key=lambda it: (-it.total.ended - it.total.retried, it.key or ""))
    return Charts(window=window, starts=starts, whole=_series(None, whole, starts), parts=found)


def _series(key: str | None, rows: dict[int, Sums], starts: Sequence[int]) -> Series:
    counts = [rows[start].counts if start in rows else _NONE for start in starts]
    return Series(key=key, steps=[summary(it) for it in counts], total=summary(total_of(counts)))


def summary(counts: Sequence[int]) -> Summary:
    """Returns what the counts of one time say; they are in the order of `COUNTS`."""
    completed, failed, cancelled, retried = counts[_OUTCOMES]
    waits, runs = counts[_WAITS], counts[_RUNS]
    return Summary(
        completed=completed,
        failed=failed,
        cancelled=cancelled,
        retried=retried,
        wait_p50=percentile(waits, 0.5),
        wait_p95=percentile(waits, 0.95),
        run_p50=percentile(runs, 0.5),
        run_p95=percentile(runs, 0.95),
    )


def ended_per_minute() -> dict[str, float]:
    """Returns how many executions of each queue have ended per minute of late. Blocks.

    Over the last full minutes, which are the only ones that every process has written.
    """
    source = rollups()
    if source is None:
        return {}
    until = (int(source.now()) - 30) // 60 * 60
    rows = source.sums(60, until - 60 * RATE_MINUTES, by="queue")
    rates: dict[str, float] = {}
    for row in rows:
        if row.start < until:
            ended = summary(row.counts).ended
            rates[row.by or ""] = rates.get(row.by or "", 0.0) + ended / RATE_MINUTES
    return rates


def errors() -> list[ErrorGroup] | None:
    """Returns errors of the last weeks by class and place, at most `MOST_ERRORS`. Blocks.

    Those that were seen most in the last 24 hours come first. None without roll-ups.
    """
    source = rollups()
    if source is None:
        return None
    now = int(source.now())
    rows: dict[tuple[str, str], list[ErrorSums]] = {}
    for row in source.errors(0):
        rows.setdefault((row.error, row.place), []).append(row)
    seen = {key: max(it.last_at for it in group) for key, group in rows.items()}
    first = now // 3600 * 3600 - (HOURS - 1) * 3600
    latest = sorted(seen, key=lambda key: -seen[key])[:MOST_ERRORS]
    hours = {key: [0] * HOURS for key in latest}
    for hour in source.error_hours(first, latest):
        place = (hour.start - first) // 3600
        if 0 <= place < HOURS:
            hours[hour.error, hour.place][place] += hour.count
    examples = source.examples({key: seen[key] for key in latest})
    groups = [
        ErrorGroup(
            error=error,
            place=place,
            names=sorted({it.name for it in rows[error, place]}),
            failed=sum(it.failed for it in rows[error, place]),
            retried=sum(it.retried for it in rows[error, place]),
            first_at=min(it.first_at for it in rows[error, place]),
            last_at=seen[error, place],
            hours=hours[error, place],
            example_id=str(found) if (found := examples.get((error, place))) else None,
        )
        for error, place in latest
    ]
    return sorted(groups, key=lambda it: (-it.lately, -it.last_at, it.error, it.place))
