"""OpenTelemetry's SDK as a project sets it up, with all spans and metrics in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Processor(SpanProcessor):
    """The project's own span processor, which does what a test wants; it comes after the export.

    `act` is called with "on_start" or "on_end", and the span.
    """

    def __init__(self) -> None:
        self.act: Callable[[str, ReadableSpan], None] = ignored

    def on_start(self, span: ReadableSpan, parent_context: object = None) -> None:
        self.act("on_start", span)

    def on_end(self, span: ReadableSpan) -> None:
        self.act("on_end", span)


def ignored(event: str, span: ReadableSpan) -> None:
    """As a processor that has been written well."""


@cache
def processor() -> Processor:
    """Returns the project's processor of this process's only provider."""
    return Processor()


@cache
def exporter() -> InMemorySpanExporter:
    """Returns the exporter of this process's only provider."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    provider.add_span_processor(processor())
    trace.set_tracer_provider(provider)
    return spans


@cache
def reader() -> InMemoryMetricReader:
    """Returns the reader of this process's only meter provider."""
    found = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([found]))
    return found


class Spans:
    """The spans that have ended since the test began, oldest end first."""

    def __init__(self, spans: InMemorySpanExporter) -> None:
        self._exporter = spans

    @property
    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [it for it in self.all if it.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found


def facts(span: ReadableSpan) -> dict[str, Any]:
    """Returns the span's attributes."""
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[int, int]:
    """Returns the ids of its trace and of itself."""
    return span.context.trace_id, span.context.span_id
