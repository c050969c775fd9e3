"""Log lines and metrics for operators; both are observers of the runtime."""

from __future__ import annotations

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.observability.logs import observe_by_logs
from rail_async_tasks.runtime import observers
from rail_async_tasks.runtime.rollups import observe_by_rollups


def register() -> None:
    """Registers the observers: logs, metrics, roll-ups. Called when the app is ready."""
    observers.register(observe_by_logs)
    observers.register(observe_by_metrics)
    observers.register(observe_by_rollups)


def observe_by_metrics(settings: TaskSettings) -> observers.Observer | None:
    """Returns the metrics' observer if `metrics_enabled` is on."""
    if not settings.metrics_enabled:
        return None
    # The package behind it is optional, so this is the one place that leads to it at start.
    from rail_async_tasks.observability.metrics import get_metrics

    return get_metrics()
