"""`tasks/live`: what changes on an open page, as server-sent events.

Three events: `html` has elements that take the place of those with their ids, `progress` has
`[id, percent, message]` of each running task that moved, `tick` comes every few seconds. Under
WSGI, where a stream would occupy one of few workers, and for a script that polls, one answer has
all.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final
from uuid import UUID

import msgspec
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks.auth.open_connections import Place, caller_key, streams
from rail_async_tasks.auth.rights import Guard, guarded
from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.dashboard.changes import Watched, aside
from rail_async_tasks.dashboard.gate import Visitor, page
from rail_async_tasks.dashboard.render import Refused
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.errors import Unauthenticated
from rail_async_tasks.hosting import process, server
from rail_async_tasks.own_views import release_connections
from rail_async_tasks.rest.events import HEADERS, MEDIA_TYPE
from rail_async_tasks.snapshot import TaskSnapshot, task_topic

# Between two looks at the counters and for new tasks.
TICK_SECONDS: Final = 2.0
# Changes of so long are sent together: no eye sees more.
BATCH_SECONDS: Final = 0.15
# Every stream's own, so that it ends with the process though it shows no task.
_TOPIC: Final = "dashboard"
_LINE_END: Final = re.compile(r"\r\n|\r|\n")

Version = tuple[int, int]


@page
def live(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with a stream, or with its present state at once."""
    watched = Watched.of(request, database(), may_change=visitor.may_change)
    if not isinstance(request, ASGIRequest) or MEDIA_TYPE not in request.headers.get("Accept", ""):
        return HttpResponse(watched.head() + watched.rows(watched.read()))
    if server.is_going_away():
        raise Refused(503, "This process is shutting down. Try again.")
    place = streams.open(caller_key(visitor.user, request))
    try:
        guard = Guard.of(visitor.user, request, viewer=visitor.viewer)
        events = _counted(_while_permitted(_events(watched), guard), place)
        response = StreamingHttpResponse(events, content_type=MEDIA_TYPE, headers=HEADERS)
        place.close_with(response)
    except BaseException:
        place.close()
        raise
    release_connections()  # Django would do it once the stream has ended
    return response


async def _counted(
    events: AsyncGenerator[bytes, None], place: Place
) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(events):
            async for event in events:
                yield event
    finally:
        place.close()


async def _while_permitted(
    events: AsyncGenerator[bytes, None], guard: Guard | None
) -> AsyncGenerator[bytes, None]:
    """Yields the events while the caller may read them; then one event `lost`, the last."""
    try:
        async with aclosing(guarded(events, guard)) as permitted:
            async for event in permitted:
                yield event
    except (Unauthenticated, PermissionDenied):
        if guard is None or guard.lost is None:
            raise
        yield event_of("lost", guard.lost.message)


async def _events(watched: Watched) -> AsyncGenerator[bytes, None]:
    topics = [_TOPIC, *(task_topic(it) for it in watched.ids)]
    # Subscribed before the rows are read: what changes in between is not lost.
    async with process.bus().subscribe(*topics) as mailbox:
        seen: dict[UUID, Version] = {}
        tasks = await aside(watched.read)
        for event in changes(watched, seen, tasks):
            yield event
        head, loop = "", asyncio.get_running_loop()
        tick_at = loop.time()
        while not mailbox.closed:
            if loop.time() >= tick_at:
                before, head = head, await aside(watched.head)
                if head != before:
                    yield event_of("html", head)
                yield event_of("tick", "")
                tick_at = loop.time() + TICK_SECONDS
            for event in changes(watched, seen, await _next(mailbox, tick_at)):
                yield event


async def _next(mailbox: Mailbox, until: float) -> list[TaskSnapshot]:
    """Returns what has changed within a batch's time from the first change on."""
    try:
        async with asyncio.timeout_at(until):
            first = await anext(mailbox)
    except (TimeoutError, StopAsyncIteration):
        return []
    await asyncio.sleep(BATCH_SECONDS)
    later = mailbox.take()
    return later if any(it.id == first.id for it in later) else [first, *later]


def changes(
    watched: Watched, seen: dict[UUID, Version], tasks: Iterable[TaskSnapshot]
) -> Iterable[bytes]:
    """Yields the events of these tasks; notes in `seen` the versions that they have shown."""
    rows, moved = [], []
    for task in tasks:
        before = seen.get(task.id, (0, 0))
        # A cancel that was asked for changes neither number.
        if task.version < before:
            continue
        seen[task.id] = task.version
        if task.seq == before[0] and task.version > before and not task.cancel_requested:
            moved.append([task.id, task.progress, task.progress_message or ""])
        else:
            rows.append(task)
    if rows:
        yield event_of("html", watched.rows(rows))
    if moved:
        yield event_of("progress", msgspec.json.encode(moved).decode())


def event_of(name: str, data: str) -> bytes:
    """Returns one event; each line of the data gets its own field."""
    lines = _LINE_END.split(data)  # not `splitlines`, which knows more ends than the protocol
    return "".join([f"event: {name}\n", *(f"data: {it}\n" for it in lines), "\n"]).encode()


ROUTES: Final = (path("tasks/live", live, name="live"),)
