"""Log lines, metrics and spans for operators: observers of the runtime, and its tracer."""

from __future__ import annotations

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.observability.logs import observe_by_logs
from rail_async_tasks.runtime import event_counts, observers, tracing
from rail_async_tasks.runtime.rollups import count_by_rollups


def register() -> None:
    """Registers observers (logs, counts) and the tracer; called when the app is ready.

    The packages behind metrics and spans are optional: they are imported where a setting asks.
    """
    observers.register(observe_by_logs)
    observers.register(event_counts.observe_by_counts)
    event_counts.register(count_by_metrics)
    event_counts.register(count_by_otel)
    event_counts.register(count_by_rollups)
    tracing.register(trace_by_otel)


def count_by_metrics(settings: TaskSettings) -> event_counts.Counter | None:
    """Returns the metrics of this process if `metrics_enabled` is on."""
    if not settings.metrics_enabled:
        return None
    from rail_async_tasks.observability.metrics import get_metrics

    return get_metrics()


def count_by_otel(settings: TaskSettings) -> event_counts.Counter | None:
    """Returns what counts on OpenTelemetry's meters if `otel_enabled` is on."""
    if not settings.otel_enabled:
        return None
    from rail_async_tasks.observability.otel_metrics import get_otel_metrics

    return get_otel_metrics()


def trace_by_otel(settings: TaskSettings) -> tracing.Tracer | None:
    """Returns the tracer if `otel_enabled` is on."""
    if not settings.otel_enabled:
        return None
    from rail_async_tasks.observability.spans import SpanTracer

    return SpanTracer()
