"""GraphQL over server-sent events: the format of an event, and the end of a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any, cast

from django.core.exceptions import PermissionDenied
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.streaming import SSETransport
from strawberry.types import ExecutionResult

from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.auth.open_connections import Place
from rail_async_tasks.auth.rights import guarded
from rail_async_tasks.errors import Unauthenticated
from rail_async_tasks.graphql import answers
from rail_async_tasks.graphql.errors import graphql_error
from rail_async_tasks.graphql.shared import NotShared, encode_json, payloads
from rail_async_tasks.hosting import server
from rail_async_tasks.own_views import arelease_connections
from rail_async_tasks.signs_of_life import with_signs_of_life


class EventStream(SSETransport):
    """Server-sent events whose lines end with LF, as every client reads them.

    urql splits a stream at two line feeds, so it finds no end of an event in CR LF.
    """

    def encode_event(self, event: str, data: str | None = None) -> str:
        return super().encode_event(event, data).replace("\r\n", "\n")

    def encode_next(
        self, response: GraphQLHTTPResponse, encode_json: Callable[[object], str]
    ) -> str:
        return self.next_of(encode_json(response), encode_json)

    def next_of(self, payload: str, encode_json: Callable[[object], str] = encode_json) -> str:
        """Returns the event of an encoded result."""
        text = self.encode_event("next", payload)
        too_large = answers.too_large(len(text))
        if too_large is None:
            return text
        refused = {"data": None, "errors": [graphql_error(too_large).formatted]}
        return self.encode_event("next", encode_json(refused))

    def encode_comment(self, comment: str) -> str:
        return super().encode_comment(comment).replace("\r\n", "\n")


async def shared_events(
    schema: Any,
    context: Any,
    operation: GraphQLRequestData,
    alone: Callable[[], AsyncIterator[str]],
) -> AsyncIterator[str]:
    """Yields the events of a subscription, shared with others; those of `alone` where it isn't."""
    transport = EventStream()
    results = payloads(
        schema, context, operation.query or "", operation.variables, operation.operation_name
    )
    texts = _as_events(results, transport)
    sign = transport.heartbeat_message(encode_json)
    try:
        async with aclosing(
            with_signs_of_life(texts, sign, transport.heartbeat_interval)
        ) as events:
            async for event in events:
                yield event
    except NotShared:
        async with aclosing(cast("AsyncGenerator[str, None]", alone())) as events:
            async for event in events:
                yield event


async def _as_events(
    results: AsyncGenerator[str, None], transport: EventStream
) -> AsyncGenerator[str, None]:
    async with aclosing(results):
        async for payload in results:
            yield transport.next_of(payload)
    yield transport.encode_complete()


async def while_permitted(
    stream: AsyncIterator[Any], context: RequestContext | None
) -> AsyncIterator[Any]:
    """Yields the events while the caller may read them; then one event `error`, the last."""
    guard = None
    if context is not None:
        with suppress(Exception):  # a tenant resolver: the fields report it
            await context.caller()  # whose rights the guard compares with
        guard = context.guard()
    events = cast("AsyncGenerator[Any, None]", stream)
    try:
        async with aclosing(guarded(events, guard)) as permitted:
            async for event in permitted:
                yield event
    except (Unauthenticated, PermissionDenied):
        if guard is None or guard.lost is None:
            raise
        loss = {"code": guard.lost.code, "message": guard.lost.message}
        yield f"event: error\ndata: {json.dumps(loss)}\n\n"


async def without_farewell(
    stream: AsyncIterator[Any], context: RequestContext | None, place: Place | None = None
) -> AsyncIterator[Any]:
    """Yields the events, without a `complete` that only means that this process ends.

    `place` is the stream's among those of its caller, until it ends.
    """
    released = False
    try:
        async with aclosing(
            cast("AsyncGenerator[Any, None]", while_permitted(stream, context))
        ) as events:
            async for event in events:
                ended = context is not None and context.ended
                completes = str(event).startswith("event: complete")
                if completes and server.is_going_away() and not ended:
                    return
                if not released and str(event).startswith("event: next"):
                    released = True  # the row has been read; changes come over the bus
                    await arelease_connections()
                yield event
    finally:
        if place is not None:
            place.close()


async def only(result: ExecutionResult) -> AsyncGenerator[ExecutionResult, None]:
    """Yields the one result of a stream."""
    yield result
