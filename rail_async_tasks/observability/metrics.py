"""Prometheus metrics: what this process enqueues and runs, by task and queue; and the page.

They have a registry of their own, so that the page lacks the project's own metrics, and a reloaded
module registers nothing twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from functools import partial

from rail_async_tasks.forks import after_fork
from rail_async_tasks.observability import instruments
from rail_async_tasks.observability.counting import Add, Counting, Observe
from rail_async_tasks.observability.instruments import Instrument, Kind
from rail_async_tasks.observability.processes import SharedReadings, forget_ended
from rail_async_tasks.observability.prometheus_library import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    multiprocess,
    observe_all,
    prometheus,
)
from rail_async_tasks.observability.readings import Reading, readings, table_readings
from rail_async_tasks.runtime.event_counts import count_now

PREFIX = "rail_tasks"
FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class PrometheusOutput:
    """See `counting.Output`."""

    def __init__(self, registry: prometheus.CollectorRegistry) -> None:
        self._metrics: dict[str, prometheus.Counter | prometheus.Histogram] = {}
        for it in (*instruments.COUNTERS, instruments.FINISHED):
            self._metrics[it.name] = prometheus.Counter(
                f"{PREFIX}_{it.name}", it.text, it.labels, registry=registry
            )
        for it in (instruments.DURATION, instruments.WAIT):
            self._metrics[it.name] = prometheus.Histogram(
                f"{PREFIX}_{it.name}", it.text, it.labels, registry=registry,
                buckets=instruments.BUCKETS,
            )  # fmt: skip

    def counter(self, instrument: Instrument, labels: tuple[str, ...]) -> Add:
        metric = self._metrics[instrument.name].labels(*labels)
        assert isinstance(metric, prometheus.Counter)
        return metric.inc

    def histogram(self, instrument: Instrument, labels: tuple[str, ...]) -> Observe:
        metric = self._metrics[instrument.name].labels(*labels)
        assert isinstance(metric, prometheus.Histogram)
        return partial(observe_all, metric)


class Metrics(Counting):
    """Counts of this process, and the page that shows them.

    With `PROMETHEUS_MULTIPROC_DIR` set the page is of all processes that share the folder: counts
    are summed, and each process writes its readings there every few seconds.
    """

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        # What is in the folder outlives the process, whatever ends it.
        super().__init__(PrometheusOutput(self.registry), at_once=bool(os.environ.get(FOLDER)))
        self._shared: SharedReadings | None = None
        if os.environ.get(FOLDER):
            self._shared = SharedReadings(PREFIX)
            self._shared.start()
        else:
            self.registry.register(_Now())

    def page(self, accept: str) -> tuple[bytes, str]:
        """Returns the metrics as text and its content type, in the format that `accept` prefers.

        May wait for the database, for two seconds at most.
        """
        count_now()
        encode, content_type = prometheus.exposition.choose_encoder(accept)
        if self._shared is None:
            return encode(self.registry), content_type
        self._shared.write()
        forget_ended(os.environ[FOLDER])
        shared = prometheus.CollectorRegistry()
        shared.register(_OfAllProcesses(os.environ[FOLDER]))
        return encode(shared), content_type


class _OfAllProcesses:
    """Collects the metrics of all processes, without those of the project itself; and the table."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        everything = multiprocess.MultiProcessCollector(None, self._folder)  # type: ignore[no-untyped-call]
        for metric in everything.collect():  # type: ignore[no-untyped-call]
            if metric.name.startswith(f"{PREFIX}_"):
                yield metric
        yield from _families(instruments.TABLE, table_readings())


class _Now:
    """Collects the readings of this process and of the table when the page is requested."""

    def collect(self) -> Iterable[Metric]:
        yield from _families(instruments.NOW, readings())
        yield from _families(instruments.TABLE, table_readings())

    def describe(self) -> Iterable[Metric]:
        return ()  # values are read at the first request of the page


def _families(shown: Iterable[Instrument], values: Iterable[Reading]) -> Iterator[Metric]:
    families = {
        it.name: (CounterMetricFamily if it.kind is Kind.COUNTER else GaugeMetricFamily)(
            f"{PREFIX}_{it.name}", it.text, labels=it.labels
        )
        for it in shown
    }
    for instrument, labels, value in values:
        families[instrument.name].add_metric(labels, value)
    return iter(families.values())


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
