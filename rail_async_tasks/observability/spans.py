"""Spans by OpenTelemetry: one per start (producer), one per attempt (consumer), in one trace.

Names and attributes follow OpenTelemetry's conventions for messaging. Arguments, results and owners
are in none of them; an exception's text only where it was written for users.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import msgspec

from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import TaskError
from rail_async_tasks.ledger.records import Claimed, NewExecution
from rail_async_tasks.observability.otel_library import (
    SCOPE,
    TraceContextTextMapPropagator,
    context,
    trace,
)
from rail_async_tasks.public_errors import is_declared
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status
from rail_async_tasks.text import MAX_TRACEBACK_BYTES, clean

# In characters: the width of the column. A longer `tracestate` loses its last members.
MAX_TRACESTATE: Final = 512

# How a span names an end of an attempt that the status alone does not.
DROPPED: Final = "dropped"
HANDED_BACK: Final = "handed_back"

_format: Final = TraceContextTextMapPropagator()


class SpanTracer:
    """See `runtime.tracing.Tracer`. The spans go to the provider that the project has set."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer(SCOPE, version("rail_async_tasks"))

    @contextmanager
    def sending(self, news: Sequence[NewExecution]) -> Iterator[SendingSpan]:
        first = news[0]
        attributes = _attributes("send", first.queue, first.name)
        if len(news) == 1:
            attributes["messaging.message.id"] = str(first.id)
        else:
            attributes["messaging.batch.message_count"] = len(news)
        span = self._tracer.start_span(
            f"send {first.queue}", kind=trace.SpanKind.PRODUCER, attributes=attributes
        )
        sending = SendingSpan(span, news)
        token = context.attach(trace.set_span_in_context(span))
        try:
            yield sending
        except BaseException as error:
            span.set_attribute("error.type", _type_of(error))
            # The texts of `TaskError` are ours, and name no values of arguments.
            text = error.message if isinstance(error, TaskError) else None
            span.set_status(trace.Status(trace.StatusCode.ERROR, text))
            raise
        finally:
            context.detach(token)
            if not sending.discarded:
                span.end()

    def attempt(self, claimed: Claimed, definition: TaskDefinition) -> ConsumerSpan:
        snapshot = claimed.snapshot
        attributes = _attributes("process", snapshot.queue, snapshot.name)
        attributes["messaging.message.id"] = str(snapshot.id)
        attributes["rail_tasks.attempt"] = snapshot.attempts
        attributes["code.function.name"] = _function_of(definition)
        # Never the caller's own context: that of the loop's callback belongs to another task.
        started_in = _read(claimed.traceparent, claimed.tracestate)
        sent = trace.get_current_span(started_in).get_span_context()
        span = self._tracer.start_span(
            f"process {snapshot.queue}",
            context=started_in,
            kind=trace.SpanKind.CONSUMER,
            attributes=attributes,
            links=[trace.Link(sent)] if sent.is_valid else None,
        )
        return ConsumerSpan(span)


class SendingSpan:
    """See `runtime.tracing.Sending`."""

    def __init__(self, span: trace.Span, news: Sequence[NewExecution]) -> None:
        self._span = span
        self.discarded = False
        traceparent, tracestate = _written(span.get_span_context())
        self.news: Sequence[NewExecution] = news
        if traceparent is not None:
            self.news = [
                msgspec.structs.replace(it, traceparent=traceparent, tracestate=tracestate)
                for it in news
            ]

    def stored(self, snapshot: TaskSnapshot) -> None:
        if snapshot.id != self.news[0].id:  # the unfinished one that has its unique key
            self._span.set_attribute("messaging.message.id", str(snapshot.id))
            self._span.set_attribute("rail_tasks.existing", True)

    def discard(self) -> None:
        self.discarded = True


class ConsumerSpan:
    """See `runtime.tracing.AttemptSpan`."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._ended_at: int | None = None  # nanoseconds since 1970
        found = span.get_span_context()
        self.trace_id = trace.format_trace_id(found.trace_id) if found.is_valid else None

    def activate(self) -> Callable[[], None]:
        return partial(context.detach, context.attach(trace.set_span_in_context(self._span)))

    def body_ended(self) -> None:
        self._ended_at = time.time_ns()

    def settled(self, snapshot: TaskSnapshot, cause: BaseException | None) -> None:
        span = self._span
        if span.is_recording():
            handed_back = snapshot.status == Status.RETRYING and snapshot.error_code is None
            outcome = HANDED_BACK if handed_back else str(snapshot.status)
            span.set_attribute("rail_tasks.outcome", outcome)
            if snapshot.error_code is not None and snapshot.status != Status.CANCELLED:
                self._fail(snapshot, cause)
        span.end(self._ended_at)

    def dropped(self) -> None:
        self._span.set_attribute("rail_tasks.outcome", DROPPED)
        self._span.end(self._ended_at)

    def _fail(self, snapshot: TaskSnapshot, cause: BaseException | None) -> None:
        text = snapshot.error if is_declared(snapshot) else None
        kind = snapshot.error_type or str(snapshot.error_code) if cause is None else _type_of(cause)
        self._span.set_attribute("error.type", kind)
        self._span.set_attribute("rail_tasks.error_code", str(snapshot.error_code))
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, text))
        if cause is None:
            return
        # Without the exception's text, which the SDK's `record_exception` would add.
        where = "".join(traceback.format_tb(cause.__traceback__))
        event = {
            "exception.type": kind,
            "exception.stacktrace": clean(f"{where}{kind}", MAX_TRACEBACK_BYTES),
        }
        if text is not None:
            event["exception.message"] = text
        self._span.add_event("exception", event, self._ended_at)


def _attributes(operation: str, queue: str, name: str) -> dict[str, Any]:
    return {
        "messaging.system": SCOPE,
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "rail_tasks.task": name,
    }


def _function_of(definition: TaskDefinition) -> str:
    function = definition.function
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}"


def _type_of(error: BaseException) -> str:
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _written(found: trace.SpanContext) -> tuple[str | None, str | None]:
    """Returns `traceparent` and `tracestate` of a span, as W3C Trace Context writes them."""
    if not found.is_valid:
        return None, None
    carrier: dict[str, str] = {}
    span = trace.NonRecordingSpan(found)
    _format.inject(carrier, trace.set_span_in_context(span, context.Context()))
    members = carrier.get("tracestate", "").split(",")
    while len(",".join(members)) > MAX_TRACESTATE:
        members.pop()
    return carrier["traceparent"], ",".join(members) or None


def _read(traceparent: str | None, tracestate: str | None) -> context.Context:
    """Returns a context with the remote span; an empty one where there is none, or no valid one."""
    if traceparent is None:
        return context.Context()
    carrier = {"traceparent": traceparent}
    if tracestate is not None:
        carrier["tracestate"] = tracestate
    return _format.extract(carrier, context.Context())
