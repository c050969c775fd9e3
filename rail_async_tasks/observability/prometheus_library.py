"""prometheus_client, an optional package. Everything of this package that needs it comes here."""

from __future__ import annotations

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
    "prometheus",
]
