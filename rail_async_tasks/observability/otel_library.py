"""OpenTelemetry's API, an optional package. Everything of this package that needs it comes here."""

from __future__ import annotations

from rail_async_tasks.errors import ConfigurationError

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigurationError(
        "otel_enabled needs opentelemetry-api, which cannot be imported. Install it:"
        ' pip install "rail_async_tasks[otel]".'
    ) from error

__all__ = ["TraceContextTextMapPropagator", "context", "metrics", "trace"]

# The name of tracer and meter.
SCOPE = "rail_async_tasks"
