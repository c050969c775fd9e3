"""Prometheus metrics of this process: what it enqueues and runs, by task and queue.

They have a registry of their own, so that the page lacks the project's own metrics, and a reloaded
module registers nothing twice. Labels are names of declared tasks and known
queues, everything else is `(other)`: clients cannot add series by inventing names.
"""

from __future__ import annotations

import os
import threading
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hosting import process as host
from rail_async_tasks.registry import registry
from rail_async_tasks.snapshot import TaskSnapshot

try:
    import prometheus_client as prometheus
    from prometheus_client import multiprocess
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
except ImportError as error:
    raise ConfigurationError(
        "metrics_enabled needs prometheus_client, which cannot be imported. Install it:"
        ' pip install "rail_async_tasks[metrics]".'
    ) from error

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PREFIX = "rail_tasks"
LABELS = ("task", "queue")
OTHER = "(other)"

# A task may be a no-op or an hour's work; a wait is a commit or a day in the low queue. Seconds.
BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)


class _Series(NamedTuple):
    """The counters of one task in one queue."""

    enqueued: prometheus.Counter
    started: prometheus.Counter
    retries: prometheus.Counter
    handed_back: prometheus.Counter
    slow: prometheus.Counter
    dropped: prometheus.Counter
    duration: prometheus.Histogram
    wait: prometheus.Histogram
    finished: dict[str, prometheus.Counter]


class Metrics:
    """An observer that counts, and the page that shows it. See `observers.Observer`."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        self._enqueued = self._counter("enqueued", "Tasks that were started here.")
        self._started = self._counter("started", "Attempts that have begun here.")
        self._finished = self._counter(
            "finished", "Tasks that have come to their end here, by their status.", "status"
        )
        self._retries = self._counter("retries", "Attempts that ended with a retry to come.")
        self._handed_back = self._counter(
            "handed_back", "Attempts that were ended by a shutdown, and go on elsewhere."
        )
        self._slow = self._counter("slow", "Attempts over slow_task_threshold_seconds.")
        self._dropped = self._counter(
            "dropped", "Attempts whose outcome was not stored: the task was no longer theirs."
        )
        self._duration = self._histogram("duration_seconds", "How long an attempt's body took.")
        self._wait = self._histogram(
            "queue_wait_seconds",
            "From a task's creation to its first attempt; a delay that was asked for counts.",
        )
        self._series: dict[tuple[str, str], _Series] = {}
        self.registry.register(_Now())

    def _counter(self, name: str, text: str, *more: str) -> prometheus.Counter:
        return prometheus.Counter(
            f"{PREFIX}_{name}", text, (*LABELS, *more), registry=self.registry
        )

    def _histogram(self, name: str, text: str) -> prometheus.Histogram:
        return prometheus.Histogram(
            f"{PREFIX}_{name}", text, LABELS, registry=self.registry, buckets=BUCKETS
        )

    # --- as an observer --------------------------------------------------------------------------

    def enqueued(self, snapshot: TaskSnapshot) -> None:
        self._of(snapshot).enqueued.inc()

    def started(self, snapshot: TaskSnapshot) -> None:
        series = self._of(snapshot)
        series.started.inc()
        if snapshot.attempts == 1 and snapshot.started_at is not None:
            waited = (snapshot.started_at - snapshot.created_at).total_seconds()
            series.wait.observe(max(waited, 0.0))

    def slow(self, snapshot: TaskSnapshot, seconds: float) -> None:
        self._of(snapshot).slow.inc()

    def ended(self, snapshot: TaskSnapshot, seconds: float | None, traceback: str | None) -> None:
        series = self._of(snapshot)
        if seconds is not None:
            series.duration.observe(seconds)
        if snapshot.is_final:
            self._finished_as(series, snapshot).inc()
        elif snapshot.error_code is None:
            series.handed_back.inc()
        else:
            series.retries.inc()

    def dropped(self, snapshot: TaskSnapshot, seconds: float) -> None:
        series = self._of(snapshot)
        series.dropped.inc()
        series.duration.observe(seconds)

    # --- the series ------------------------------------------------------------------------------

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
        return _Series(
            enqueued=self._enqueued.labels(*key),
            started=self._started.labels(*key),
            retries=self._retries.labels(*key),
            handed_back=self._handed_back.labels(*key),
            slow=self._slow.labels(*key),
            dropped=self._dropped.labels(*key),
            duration=self._duration.labels(*key),
            wait=self._wait.labels(*key),
            finished={},
        )

    def _finished_as(self, series: _Series, snapshot: TaskSnapshot) -> prometheus.Counter:
        status = str(snapshot.status)
        counter = series.finished.get(status)
        if counter is None:
            key = labels_of(snapshot.name, snapshot.queue)
            counter = series.finished[status] = self._finished.labels(*key, status)
        return counter

    # --- the page --------------------------------------------------------------------------------

    def page(self, accept: str) -> tuple[bytes, str]:
        """Returns the metrics as text and its content type, in the format that `accept` prefers.

        With `PROMETHEUS_MULTIPROC_DIR` set it is the sum over all processes that share the folder,
        without the values that only this process has.
        """
        encode, content_type = prometheus.exposition.choose_encoder(accept)
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return encode(self.registry), content_type
        shared = prometheus.CollectorRegistry()
        shared.register(_OursOfAll())
        return encode(shared), content_type


def labels_of(name: str, queue: str) -> tuple[str, str]:
    """Returns the labels of a task in a queue; unknown names become `(other)`."""
    known = registry.get(name) is not None
    queues = get_settings().queues.keys() | registry.queues() | {get_settings().default_queue}
    return (name if known else OTHER, queue if queue in queues else OTHER)


class _OursOfAll:
    """Collects the metrics of all processes, without those of the project itself."""

    def collect(self) -> Iterator[Metric]:
        everything = multiprocess.MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        for metric in everything.collect():  # type: ignore[no-untyped-call]
            if metric.name.startswith(f"{PREFIX}_"):
                yield metric


class _Now:
    """Collects values of the runtime when the page is requested."""

    def collect(self) -> Iterable[Metric]:
        running = GaugeMetricFamily(f"{PREFIX}_running", "Bodies that run now.", labels=LABELS)
        leaked = GaugeMetricFamily(
            f"{PREFIX}_leaked", "Bodies that were given up, and still have not ended."
        )
        recovered = CounterMetricFamily(
            f"{PREFIX}_recovered", "Tasks that were taken over from processes that are gone."
        )
        fences = CounterMetricFamily(
            f"{PREFIX}_leases_lost", "How often this process could not prove in time that it lives."
        )
        blocked = CounterMetricFamily(
            f"{PREFIX}_loop_blocked", "How often something held the event loop for over a second."
        )
        paused = GaugeMetricFamily(
            f"{PREFIX}_queue_paused", "1 while nothing of the queue starts.", labels=("queue",)
        )
        runtime = host.current()
        if runtime is not None:
            states: dict[str, bool] = {}
            for queue in runtime.slots.queues():
                label = labels_of("", queue)[1]
                states[label] = states.get(label, False) or queue in runtime.slots.paused
            for label, state in states.items():
                paused.add_metric((label,), state)
            attempts = [it.snapshot for it in list(runtime.attempts.values()) if not it.ended]
            counted = Tally(labels_of(it.name, it.queue) for it in attempts)
            for labels, count in counted.items():
                running.add_metric(labels, count)
            leaked.add_metric((), runtime.slots.leaked)
            recovered.add_metric((), runtime.recovered)
            fences.add_metric((), runtime.fences)
            blocked.add_metric((), runtime.blocked)
        yield from (running, leaked, recovered, fences, blocked, paused)
        yield from _of_writers()
        yield from _of_bus()

    def describe(self) -> Iterable[Metric]:
        return ()  # values are read at the first request of the page


def _of_writers() -> Iterator[Metric]:
    labels = ("writer",)
    backlog = GaugeMetricFamily(
        f"{PREFIX}_writer_backlog", "Changes that wait for their commit.", labels=labels
    )
    failing = GaugeMetricFamily(
        f"{PREFIX}_writer_failing_seconds", "For how long nothing could be written.", labels=labels
    )
    batches = CounterMetricFamily(
        f"{PREFIX}_writer_batches", "Batches that were committed.", labels=labels
    )
    written = CounterMetricFamily(
        f"{PREFIX}_writer_changes", "Changes in those batches.", labels=labels
    )
    writers = host.ledger().writers()
    for writer in () if writers is None else writers.states():
        backlog.add_metric((writer.name,), writer.backlog)
        failing.add_metric((writer.name,), writer.failing_for or 0)
        batches.add_metric((writer.name,), writer.batches)
        written.add_metric((writer.name,), writer.written)
    yield from (backlog, failing, batches, written)


def _of_bus() -> Iterator[Metric]:
    statistics = host.bus().statistics()
    subscribers = GaugeMetricFamily(f"{PREFIX}_bus_subscribers", "Watchers in this process.")
    subscribers.add_metric((), statistics.get("subscribers", 0))
    published = CounterMetricFamily(f"{PREFIX}_bus_published", "Snapshots that were published.")
    published.add_metric((), statistics.get("published", 0))
    yield from (subscribers, published)


_lock = threading.Lock()
_metrics: Metrics | None = None


def get_metrics() -> Metrics:
    """Returns the metrics of this process."""
    global _metrics
    with _lock:
        if _metrics is None:
            _metrics = Metrics()
        return _metrics


def _start_afresh() -> None:
    """Starts at 0 in a forked child, with a lock of its own: the parent may have held its lock."""
    global _lock, _metrics
    _lock = threading.Lock()
    _metrics = None


after_fork(_start_afresh)
