"""GraphQL over server-sent events: the format of an event, and the end of a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any, cast

from django.core.exceptions import PermissionDenied
from strawberry.http import GraphQLHTTPResponse
from strawberry.http.streaming import SSETransport
from strawberry.types import ExecutionResult

from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.auth.open_connections import Place
from rail_async_tasks.auth.rights import guarded
from rail_async_tasks.errors import Unauthenticated
from rail_async_tasks.graphql import answers
from rail_async_tasks.graphql.errors import graphql_error
from rail_async_tasks.hosting import server
from rail_async_tasks.own_views import arelease_connections


class EventStream(SSETransport):
    """Server-sent events whose lines end with LF, as every client reads them.

    urql splits a stream at two line feeds, so it finds no end of an event in CR LF.
    """

    def encode_event(self, event: str, data: str | None = None) -> str:
        return super().encode_event(event, data).replace("\r\n", "\n")

    def encode_next(
        self, response: GraphQLHTTPResponse, encode_json: Callable[[object], str]
    ) -> str:
        text = super().encode_next(response, encode_json)
        too_large = answers.too_large(len(text))
        if too_large is None:
            return text
        return super().encode_next(
            {"data": None, "errors": [graphql_error(too_large).formatted]}, encode_json
        )

    def encode_comment(self, comment: str) -> str:
        return super().encode_comment(comment).replace("\r\n", "\n")


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
