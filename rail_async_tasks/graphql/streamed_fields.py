"""Subscription fields that say what to use where an execution has no stream.

Strawberry's `GraphQLView`, `execute_sync()` and a POST without an event stream execute a
subscription as if it were a query. Strawberry gives such a field a resolver that returns its event,
and without a stream there is none: the client reads "Cannot return null for non-nullable field".
Nothing of a field is called there, so `GraphQLCoreConverter.from_field` is extended here, for the
fields of this module alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from graphql import GraphQLError, GraphQLField
from strawberry.annotation import StrawberryAnnotation
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from rail_async_tasks.hooks import on_event_loop

NEEDS_AN_ASYNC_VIEW: Final = (
    "A subscription needs an asynchronous view, and this execution is synchronous. Serve the schema"
    " by TaskGraphQLView or Strawberry's AsyncGraphQLView under an ASGI server, and subscribe by"
    " server-sent events; or over a WebSocket, by TaskGraphQLConsumer. Without them, query"
    " `task(id)` again and again."
)
NEEDS_A_STREAM: Final = (
    "A subscription is answered by a stream, and this request asks for one answer. Send `Accept:"
    ' text/event-stream` to a view that has "graphql-sse" among its subscription_protocols, as'
    " TaskGraphQLView has; or use a WebSocket."
)


class StreamedField(StrawberryField):
    """A subscription field of this package."""


def streamed(
    resolver: Callable[..., Any], annotation: StrawberryAnnotation, description: str
) -> StreamedField:
    """Returns the subscription field of an async generator."""
    field = StreamedField(is_subscription=True, type_annotation=annotation, description=description)
    return field(resolver)


def event_or_refusal(event: Any, *_: Any, **__: Any) -> Any:
    """Returns the event of a stream. Raises `GraphQLError` where there is no stream."""
    if event is None:
        raise GraphQLError(NEEDS_A_STREAM if on_event_loop() else NEEDS_AN_ASYNC_VIEW)
    return event


def _extended(from_field: Callable[..., GraphQLField]) -> Callable[..., GraphQLField]:
    @wraps(from_field)
    def extended(
        self: GraphQLCoreConverter, field: StrawberryField, **keywords: Any
    ) -> GraphQLField:
        made = from_field(self, field, **keywords)
        if isinstance(field, StreamedField):
            made.resolve = event_or_refusal
        return made

    return extended


GraphQLCoreConverter.from_field = _extended(GraphQLCoreConverter.from_field)  # type: ignore[method-assign]
