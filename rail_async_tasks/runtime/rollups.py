"""Counts what becomes of executions, in this process's memory, until a roll-up takes it over.

It adds to a list of numbers per minute, task and queue, which `upkeep.rollup_writer` writes a few
times a minute. It counts only while such a writer runs in this process. Minutes are those of the
ledger's clock, as the row has them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.forks import after_fork
from rail_async_tasks.ledger.rollups import ERROR_SPAN, ErrorCounts, RollupBatch, TaskCounts
from rail_async_tasks.rollups.columns import COUNTS, OUTCOMES
from rail_async_tasks.rollups.error_places import place_of
from rail_async_tasks.rollups.histogram import BOUNDS
from rail_async_tasks.runtime import event_counts
from rail_async_tasks.runtime.event_counts import Event, count_now
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import ErrorCode, Status

_SIZE: Final = len(COUNTS)
_OUTCOMES: Final = {outcome: COUNTS.index(outcome) for outcome in OUTCOMES}
_RETRIED: Final = COUNTS.index("retried")
_WAIT: Final = COUNTS.index("wait_0")
_RUN: Final = COUNTS.index("run_0")

_ONE_MINUTE: Final = timedelta(minutes=1)

# The most lists of counts, and of errors, that wait for a database that is away: 5 MB. What would
# need more is not counted.
MOST_CELLS: Final = 5000
MOST_ERRORS: Final = 500


class RollupCounter:
    """Counts of this process that no roll-up has yet. See `event_counts.Counter`. In any thread."""

    at_once = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writers = 0
        self._cells: dict[tuple[int, str, str], list[int]] = {}
        self._errors: dict[tuple[int, str, str, str], ErrorCounts] = {}
        # The minute that was counted last, as a time and as seconds since 1970.
        self._begins = self._ends = datetime.min.replace(tzinfo=UTC)
        self._minute = 0

    def open(self) -> None:
        """Counts from now on: a writer has begun to take the counts."""
        count_now()
        with self._lock:
            self._writers += 1

    def close(self) -> None:
        """Undoes one `open`."""
        count_now()
        with self._lock:
            self._writers -= 1

    def take(self) -> RollupBatch:
        """Returns what was counted since the last call."""
        count_now()
        with self._lock:
            cells, self._cells = self._cells, {}
            errors, self._errors = self._errors, {}
        tasks = [TaskCounts(*key, counts) for key, counts in cells.items()]
        return RollupBatch(tasks, list(errors.values()))

    def put_back(self, batch: RollupBatch) -> None:
        """Adds what was taken and could not be written."""
        with self._lock:
            for it in batch.tasks:
                cell = self._cell(it.minute, it.name, it.queue)
                cell[:] = [a + b for a, b in zip(cell, it.counts, strict=True)]
            for error in batch.errors:
                self._add_error(error)

    def count(self, name: str, queue: str, events: Sequence[Event]) -> None:
        """Counts first waits, outcomes and durations of one task in one queue.

        What else there is counts elsewhere: starts in processes without a runtime, drops where the
        execution ends.
        """
        if not self._writers:
            return
        with self._lock:
            cell: list[int] = []
            of_minute = None
            for _, _, what, at, seconds, failure in events:
                outcome = _OUTCOMES.get(what)
                if what == event_counts.LOST and failure is not None:
                    outcome = _RETRIED  # another attempt follows
                if at is None or (outcome is None and what != event_counts.STARTED):
                    continue
                minute = self._minute if self._begins <= at < self._ends else self._minute_of(at)
                if minute != of_minute:
                    of_minute, cell = minute, self._cell(minute, name, queue)
                if outcome is None:
                    if seconds is not None:
                        cell[_WAIT + bisect_left(BOUNDS, seconds)] += 1
                    continue
                cell[outcome] += 1
                if seconds is not None:
                    cell[_RUN + bisect_left(BOUNDS, seconds)] += 1
                if failure is not None and what != Status.CANCELLED:
                    snapshot, traceback = failure
                    self._add_error(_error_of(snapshot, minute, traceback))

    # --- under the lock --------------------------------------------------------------------------

    def _minute_of(self, at: datetime) -> int:
        self._minute = int(at.timestamp()) // 60 * 60
        self._begins = datetime.fromtimestamp(self._minute, UTC)
        self._ends = self._begins + _ONE_MINUTE
        return self._minute

    def _cell(self, minute: int, name: str, queue: str) -> list[int]:
        key = (minute, name, queue)
        cell = self._cells.get(key)
        if cell is None:
            cell = [0] * _SIZE
            if len(self._cells) < MOST_CELLS:
                self._cells[key] = cell
        return cell

    def _add_error(self, new: ErrorCounts) -> None:
        key = (new.start, new.name, new.error, new.place)
        before = self._errors.get(key)
        if before is None:
            if len(self._errors) < MOST_ERRORS:
                self._errors[key] = new
            return
        before.failed += new.failed
        before.retried += new.retried
        before.first_at = min(before.first_at, new.first_at)
        if new.last_at >= before.last_at:
            before.last_at, before.example_id = new.last_at, new.example_id


def _error_of(snapshot: TaskSnapshot, minute: int, traceback: str | None) -> ErrorCounts:
    at, failed = int(snapshot.updated_at.timestamp()), snapshot.status == Status.FAILED
    example_id: UUID = snapshot.id
    return ErrorCounts(
        start=minute // ERROR_SPAN * ERROR_SPAN,
        name=snapshot.name,
        # A row that waits again after its process was lost has no error.
        error=snapshot.error_type or snapshot.error_code or str(ErrorCode.WORKER_LOST),
        place=place_of(traceback) or "",
        first_at=at,
        last_at=at,
        example_id=example_id,
        failed=int(failed),
        retried=int(not failed),
    )


_counter = RollupCounter()


def counter() -> RollupCounter:
    """Returns the counts of this process."""
    return _counter


def count_by_rollups(settings: TaskSettings) -> RollupCounter | None:
    """Returns the counts of this process if the settings keep statistics in a database."""
    return _counter if settings.statistics_enabled and settings.track_in_database else None


def _start_afresh() -> None:
    """A forked child has counted nothing, and its parent may have held the lock."""
    global _counter
    _counter = RollupCounter()


after_fork(_start_afresh)
