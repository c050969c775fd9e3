"""Counts what becomes of tasks, on one output: Prometheus' or OpenTelemetry's instruments.

Labels are names of declared tasks and known queues, everything else is `(other)`: clients cannot
add series by inventing names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias

from rail_async_tasks.conf import get_settings
from rail_async_tasks.observability import instruments
from rail_async_tasks.observability.instruments import Instrument
from rail_async_tasks.registry import registry
from rail_async_tasks.snapshot import TaskSnapshot

OTHER: Final = "(other)"

Add: TypeAlias = Callable[[], object]
Observe: TypeAlias = Callable[[float], object]


class Output(Protocol):
    """Where counts go. The returned calls are made from any thread, and must be quick."""

    def counter(self, instrument: Instrument, labels: tuple[str, ...]) -> Add:
        """Returns a call that adds 1 to the series with these labels."""

    def histogram(self, instrument: Instrument, labels: tuple[str, ...]) -> Observe:
        """Returns a call that takes a number of seconds."""


class _Series(NamedTuple):
    """The counters of one task in one queue."""

    labels: tuple[str, str]
    enqueued: Add
    started: Add
    retries: Add
    handed_back: Add
    crashes: Add
    slow: Add
    dropped: Add
    duration: Observe
    wait: Observe
    finished: dict[str, Add]


class Counting:
    """An observer that counts. See `observers.Observer`."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._series: dict[tuple[str, str], _Series] = {}

    def enqueued(self, snapshot: TaskSnapshot) -> None:
        self._of(snapshot).enqueued()

    def started(self, snapshot: TaskSnapshot) -> None:
        series = self._of(snapshot)
        series.started()
        if snapshot.attempts == 1 and snapshot.started_at is not None:
            waited = (snapshot.started_at - snapshot.created_at).total_seconds()
            series.wait(max(waited, 0.0))

    def slow(self, snapshot: TaskSnapshot, seconds: float) -> None:
        self._of(snapshot).slow()

    def ended(self, snapshot: TaskSnapshot, seconds: float | None, traceback: str | None) -> None:
        series = self._of(snapshot)
        if seconds is not None:
            series.duration(seconds)
        if snapshot.is_final:
            self._finished_as(series, str(snapshot.status))()
        elif snapshot.error_code is None:
            series.handed_back()
        else:
            series.retries()

    def dropped(self, snapshot: TaskSnapshot, seconds: float) -> None:
        series = self._of(snapshot)
        series.dropped()
        series.duration(seconds)

    def lost(self, snapshot: TaskSnapshot) -> None:
        self._of(snapshot).crashes()

    def _of(self, snapshot: TaskSnapshot) -> _Series:
        key = (snapshot.name, snapshot.queue)
        series = self._series.get(key)
        if series is None:
            key = labels_of(*key)
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = self._make(key)
        return series

    def _make(self, key: tuple[str, str]) -> _Series:
        counters = {it.name: self._output.counter(it, key) for it in instruments.COUNTERS}
        return _Series(
            labels=key,
            duration=self._output.histogram(instruments.DURATION, key),
            wait=self._output.histogram(instruments.WAIT, key),
            finished={},
            **counters,
        )

    def _finished_as(self, series: _Series, status: str) -> Add:
        add = series.finished.get(status)
        if add is None:
            add = self._output.counter(instruments.FINISHED, (*series.labels, status))
            series.finished[status] = add
        return add


def labels_of(name: str, queue: str) -> tuple[str, str]:
    """Returns the labels of a task in a queue; unknown names become `(other)`."""
    known = registry.get(name) is not None
    queues = get_settings().queues.keys() | registry.queues() | {get_settings().default_queue}
    return (name if known else OTHER, queue if queue in queues else OTHER)
