"""prometheus_client, an optional package. Everything of this package that needs it comes here."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from rail_async_tasks.errors import ConfigurationError

try:
    import prometheus_client as prometheus
    from prometheus_client import multiprocess
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.metrics_core import Metric
except ImportError as error:
    raise ConfigurationError(
        "metrics_enabled needs prometheus_client, which cannot be imported. Install it:"
        ' pip install "rail_async_tasks[metrics]".'
    ) from error

__all__ = [
    "CounterMetricFamily",
    "GaugeMetricFamily",
    "Metric",
    "multiprocess",
    "observe_all",
    "prometheus",
]

# Fewer values are as cheap by the library's own call.
FEW = 4


def observe_all(histogram: prometheus.Histogram, seconds: Sequence[float]) -> None:
    """Does what `observe` does for each value, with one addition per bucket and one to the sum.

    The library has no such call; these attributes of it are as old as its labels.
    """
    if len(seconds) < FEW:
        for value in seconds:
            histogram.observe(value)
        return
    bounds, buckets, total = histogram._upper_bounds, histogram._buckets, histogram._sum  # noqa: SLF001
    total.inc(sum(seconds))
    for bucket, number in Counter([bisect_left(bounds, value) for value in seconds]).items():
        buckets[bucket].inc(number)
