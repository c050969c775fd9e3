"""The instruments on OpenTelemetry's meters. Names and units turn into Prometheus' where exported.

Values go to the meter provider that the project has set. Without one nothing is counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

from rail_async_tasks.observability import instruments
from rail_async_tasks.observability.counting import Add, Counting, Observe
from rail_async_tasks.observability.instruments import Instrument, Kind
from rail_async_tasks.observability.otel_library import SCOPE, metrics
from rail_async_tasks.observability.readings import Reading, readings, table_readings


class OtelOutput:
    """See `counting.Output`."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._counters = {
            it.name: meter.create_counter(it.dotted, it.unit, it.text)
            for it in (*instruments.COUNTERS, instruments.FINISHED)
        }
        self._histograms = {
            it.name: meter.create_histogram(
                it.dotted, it.unit, it.text,
                explicit_bucket_boundaries_advisory=instruments.BUCKETS,
            )
            for it in (instruments.DURATION, instruments.WAIT)
        }  # fmt: skip

    def counter(self, instrument: Instrument, labels: tuple[str, ...]) -> Add:
        attributes = dict(zip(instrument.labels, labels, strict=True))
        add = self._counters[instrument.name].add
        return lambda number: add(number, attributes)

    def histogram(self, instrument: Instrument, labels: tuple[str, ...]) -> Observe:
        attributes = dict(zip(instrument.labels, labels, strict=True))
        record = self._histograms[instrument.name].record

        def observe(seconds: Sequence[float]) -> None:
            for value in seconds:
                record(value, attributes)

        return observe


class OtelMetrics(Counting):
    """Counts of this process, and instruments that are read when metrics are exported."""

    def __init__(self) -> None:
        meter = metrics.get_meter(SCOPE, version("rail_async_tasks"))
        # At once: an SDK takes the trace of a value from the context of the call.
        super().__init__(OtelOutput(meter), at_once=True)
        for group, read in ((instruments.NOW, readings), (instruments.TABLE, table_readings)):
            for it in group:
                make = (
                    meter.create_observable_counter
                    if it.kind is Kind.COUNTER
                    else meter.create_observable_gauge
                )
                make(it.dotted, [_reader(it, read)], it.unit, it.text)


def _reader(
    instrument: Instrument, read: Callable[[], Iterable[Reading]]
) -> Callable[[metrics.CallbackOptions], Sequence[metrics.Observation]]:
    def observe(_: metrics.CallbackOptions) -> Sequence[metrics.Observation]:
        return [
            metrics.Observation(it.value, dict(zip(instrument.labels, it.labels, strict=True)))
            for it in read()
            if it.instrument is instrument
        ]

    return observe


@functools.cache
def get_otel_metrics() -> OtelMetrics:
    """Returns the instruments of this process; a meter takes each of them once."""
    return OtelMetrics()
