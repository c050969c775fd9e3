"""Counts what becomes of tasks, on one output: Prometheus' or OpenTelemetry's instruments.

Labels are names of declared tasks and known queues, everything else is `(other)`: clients cannot
add series by inventing names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from rail_async_tasks.conf import get_settings
from rail_async_tasks.observability import instruments
from rail_async_tasks.observability.instruments import Instrument
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime import event_counts
from rail_async_tasks.runtime.event_counts import Event

OTHER: Final = "(other)"

Add: TypeAlias = Callable[[int], object]
Observe: TypeAlias = Callable[[Sequence[float]], object]

_INSTRUMENTS: Final = {
    event_counts.ENQUEUED: instruments.ENQUEUED,
    event_counts.STARTED: instruments.STARTED,
    event_counts.RETRIED: instruments.RETRIES,
    event_counts.HANDED_BACK: instruments.HANDED_BACK,
    event_counts.LOST: instruments.CRASHES,
    event_counts.SLOW: instruments.SLOW,
    event_counts.DROPPED: instruments.DROPPED,
}


class Output(Protocol):
    """Where counts go. The returned calls are made from any thread."""

    def counter(self, instrument: Instrument, labels: tuple[str, ...]) -> Add:
        """Returns a call that adds to the series with these labels."""

    def histogram(self, instrument: Instrument, labels: tuple[str, ...]) -> Observe:
        """Returns a call that takes numbers of seconds."""


class _Series:
    """The counters of one task in one queue. All but those of an outcome are shown from 0 on."""

    def __init__(self, output: Output, labels: tuple[str, str]) -> None:
        self._output = output
        self._labels = labels
        self._adds = {what: output.counter(it, labels) for what, it in _INSTRUMENTS.items()}
        self._duration = output.histogram(instruments.DURATION, labels)
        self._wait = output.histogram(instruments.WAIT, labels)

    def count(self, events: Sequence[Event]) -> None:
        for what, number in Counter([event[2] for event in events]).items():
            self._add_of(what)(number)
        # The seconds of an event; those of a start are how long it waited.
        waits = [it[4] for it in events if it[4] is not None and it[2] == event_counts.STARTED]
        if waits:
            self._wait(waits)
        durations = [it[4] for it in events if it[4] is not None and it[2] != event_counts.STARTED]
        if durations:
            self._duration(durations)

    def _add_of(self, what: str) -> Add:
        add = self._adds.get(what)
        if add is None:  # a final status
            add = self._output.counter(instruments.FINISHED, (*self._labels, str(what)))
            self._adds[what] = add
        return add


class Counting:
    """A counter of events. See `runtime.event_counts.Counter`."""

    def __init__(self, output: Output, *, at_once: bool) -> None:
        self.at_once = at_once
        self._output = output
        self._series: dict[tuple[str, str], _Series] = {}

    def count(self, name: str, queue: str, events: Sequence[Event]) -> None:
        """Counts events of one task in one queue."""
        series = self._series.get((name, queue))
        if series is None:
            key = labels_of(name, queue)
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = _Series(self._output, key)
        series.count(events)


def labels_of(name: str, queue: str) -> tuple[str, str]:
    """Returns the labels of a task in a queue; unknown names become `(other)`."""
    known = registry.get(name) is not None
    queues = get_settings().queues.keys() | registry.queues() | {get_settings().default_queue}
    return (name if known else OTHER, queue if queue in queues else OTHER)
