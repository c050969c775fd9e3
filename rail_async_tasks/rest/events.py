"""A task's changes as server-sent events.

Under ASGI the stream stays open until the final event. Under WSGI, where an open stream would
occupy one of few workers, each request is answered with the new events and ends; a client that
reconnects, as `EventSource` does, sees the same events.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from rail_async_tasks import service
from rail_async_tasks.access import Viewer
from rail_async_tasks.auth.caller import Caller
from rail_async_tasks.auth.open_connections import Place, caller_key, streams
from rail_async_tasks.auth.rights import Guard, guarded
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import TooLarge, Unauthenticated
from rail_async_tasks.own_views import arelease_connections
from rail_async_tasks.rest.parameters import last_version
from rail_async_tasks.rest.render import render_task, within_limit
from rail_async_tasks.service.renderings import SharedRenderings
from rail_async_tasks.signs_of_life import with_signs_of_life
from rail_async_tasks.snapshot import TaskSnapshot

# Below the 30 and 60 seconds after which proxies close silent connections.
KEEP_ALIVE_SECONDS: Final = 15.0
KEEP_ALIVE: Final = b": keep-alive\n\n"

MEDIA_TYPE: Final = "text/event-stream"
HEADERS: Final = {
    "X-Accel-Buffering": "no",  # nginx would buffer events
    # GZipMiddleware, which would buffer events, skips responses with a Content-Encoding.
    "Content-Encoding": "identity",
}

# The events of one task that several streams read with the same rights.
renderings: Final[SharedRenderings[bytes]] = SharedRenderings()

Version = tuple[int, int]
Snapshots = AsyncGenerator[TaskSnapshot, None]


async def events_response(request: HttpRequest, caller: Caller, task_id: str) -> HttpResponseBase:
    """Returns the stream. Raises as `service.watch` and `TooMany`, before a status is sent."""
    viewer, seen = caller.viewer, last_version(request)
    if not isinstance(request, ASGIRequest) or request.method == "HEAD":
        snapshot = await service.aget(viewer, task_id)
        content = await render_event(snapshot, viewer) if _is_new(snapshot, seen) else b""
        return HttpResponse(content, content_type=MEDIA_TYPE, headers=HEADERS)
    place = streams.open(caller_key(caller.user, request))
    snapshots = service.watch(viewer, task_id)
    try:
        first = await anext(snapshots)
        await arelease_connections()
    except BaseException:
        place.close()
        await snapshots.aclose()
        raise
    guard = Guard.of(caller.user, request, viewer=viewer)
    chunks = with_signs_of_life(
        _chunks(first, snapshots, seen, viewer), KEEP_ALIVE, KEEP_ALIVE_SECONDS
    )
    chunks = _while_permitted(chunks, guard)
    response = StreamingHttpResponse(
        _counted(chunks, place), content_type=MEDIA_TYPE, headers=HEADERS
    )
    place.close_with(response)
    return response


async def _while_permitted(
    chunks: AsyncGenerator[bytes, None], guard: Guard | None
) -> AsyncGenerator[bytes, None]:
    """Yields the chunks while the caller may read them; then one event `error`, the last."""
    try:
        async with aclosing(guarded(chunks, guard)) as permitted:
            async for chunk in permitted:
                yield chunk
    except (Unauthenticated, PermissionDenied):
        if guard is None or guard.lost is None:
            raise
        error = {"error": {"code": guard.lost.code, "message": guard.lost.message}}
        yield b"event: error\ndata: " + msgspec.json.encode(error) + b"\n\n"


async def render_event(snapshot: TaskSnapshot, viewer: Viewer) -> bytes:
    """Returns one event; its id is the version that `Last-Event-ID` brings back."""
    head = f"event: task\nid: {snapshot.seq}.{snapshot.step}\ndata: "
    data = within_limit(await render_task(snapshot, viewer, in_stream=True))
    return head.encode() + data + b"\n\n"


async def _event(snapshot: TaskSnapshot, viewer: Viewer) -> bytes:
    """`render_event` in a stream that is open: one that is too large says so in its place."""
    try:
        return await render_event(snapshot, viewer)
    except TooLarge as error:
        data = msgspec.json.encode({"error": {"code": error.code, "message": error.message}})
        return b"event: error\ndata: " + data + b"\n\n"


def _is_new(snapshot: TaskSnapshot, seen: Version) -> bool:
    """Returns whether to send it. The final one always: a client must learn of the end."""
    return snapshot.is_final or snapshot.version > seen


async def _chunks(
    first: TaskSnapshot, snapshots: Snapshots, seen: Version, viewer: Viewer
) -> AsyncGenerator[bytes, None]:
    """Yields events. A drain ends it without a final event."""
    # All that an event's text depends on, but for the snapshot.
    settings = get_settings()
    key = (viewer.rights, settings.limits.answer_bytes, settings.public_errors)
    events = renderings.get(key, lambda snapshot: _event(snapshot, viewer))
    async with aclosing(snapshots):
        if _is_new(first, seen):
            yield await events.of(first)
        async for snapshot in snapshots:
            if _is_new(snapshot, seen):
                yield await events.of(snapshot)


async def _counted(
    chunks: AsyncGenerator[bytes, None], place: Place
) -> AsyncGenerator[bytes, None]:
    """Yields the chunks; the stream is one of the caller's until it ends."""
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
    finally:
        place.close()
