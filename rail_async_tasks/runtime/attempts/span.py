"""Marks a context as that of an attempt: its span is the current one, its log lines name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rail_async_tasks import logs
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.runtime.tracing import SafeSpan, SafeTracer
from rail_async_tasks.snapshot import TaskSnapshot


def enter(
    tracer: SafeTracer | None, claimed: Claimed, definition: TaskDefinition
) -> SafeSpan | None:
    """Marks the current context, which belongs to this attempt alone."""
    span = None if tracer is None else tracer.attempt(claimed, definition)
    if span is None:
        logs.enter((claimed.snapshot, logs.trace_id_of(claimed.traceparent)))
        return None
    span.activate()
    logs.enter((claimed.snapshot, span.trace_id))
    return span


def ended(span: SafeSpan | None, snapshot: TaskSnapshot, cause: BaseException | None) -> str | None:
    """Ends a span whose attempt's outcome is stored; returns the id of its trace."""
    if span is None:
        return None
    span.settled(snapshot, cause)
    return span.trace_id


def dropped(span: SafeSpan | None) -> None:
    """Ends a span whose attempt's outcome was not stored."""
    if span is not None:
        span.dropped()


@contextmanager
def within(
    tracer: SafeTracer | None, claimed: Claimed, definition: TaskDefinition
) -> Iterator[SafeSpan | None]:
    """Marks the caller's context for the time of the block."""
    span = None if tracer is None else tracer.attempt(claimed, definition)
    undo = None if span is None else span.activate()
    trace_id = logs.trace_id_of(claimed.traceparent) if span is None else span.trace_id
    before = logs.enter((claimed.snapshot, trace_id))
    try:
        yield span
    finally:
        logs.leave(before)
        if span is not None and undo is not None:
            span.body_ended()
            undo()
