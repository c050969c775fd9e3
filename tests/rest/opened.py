"""Open streams of a caller, over each transport, until a right ends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from django.contrib.auth.models import Group, Permission

from tests.rest.conftest import Rest, logged_in
from tests.support.sockets import Socket
from tests.support.waiting import TIMEOUT

FOLLOW = "subscription($id: ID!) { taskProgress(taskId: $id) { status progress } }"
RIGHT = "view_taskexecution"


async def staff(cause: str) -> Rest:
    """A colleague who sees every task: by a right of their own or of a group, or as superuser."""
    if "superuser" in cause:
        return await logged_in("colleague", is_superuser=True)
    rest = await logged_in("colleague", is_staff=True)
    assert rest.user is not None
    right = await Permission.objects.aget(codename=RIGHT)
    if "group" in cause:
        group = await Group.objects.acreate(name="operators")
        await group.permissions.aadd(right)
        await rest.user.groups.aadd(group)
    else:
        await rest.user.user_permissions.aadd(right)
    return rest


class Opened:
    """A stream of one transport that has delivered the task as it stands."""

    def __init__(self, items: AsyncIterator[str], socket: Socket | None = None) -> None:
        self.items = items
        self.socket = socket

    async def end(self) -> str:
        """The last item; after it there is none."""
        last = ""
        async with asyncio.timeout(TIMEOUT):
            async for item in self.items:
                assert not last.startswith(("event: error", "44")), (last, item)
                last = item
        return last

    async def is_silent(self) -> bool:
        """Whether nothing came after the end."""
        if self.socket is not None:
            return await self.socket.is_silent()
        return not [item async for item in self.items]


@asynccontextmanager
async def stream(transport: str, rest: Rest, task_id: str) -> AsyncIterator[Opened]:
    socket = None
    if transport == "socket":
        socket = Socket(cookie=f"sessionid={session_of(rest)}")
        await socket.ready()
        await socket.subscribe(FOLLOW, id=task_id)
        items = frames(socket)
    elif transport == "sse":
        body = json.dumps({"query": FOLLOW, "variables": {"id": task_id}})
        response = await rest.client.post(
            "/graphql/", data=body, content_type="application/json",
            headers={"accept": "text/event-stream"},
        )  # fmt: skip
        items = texts(response.streaming_content)
    else:
        response = await rest.get(f"{task_id}/events/")
        items = texts(response.streaming_content)
    first = await asyncio.wait_for(anext(items), TIMEOUT)
    assert "running" in first, first
    yield Opened(items, socket)
    await items.aclose()
    if socket is not None:
        await socket.leave()


async def texts(chunks: AsyncIterator[Any]) -> Any:
    async for chunk in chunks:
        yield chunk if isinstance(chunk, str) else chunk.decode()


async def frames(socket: Socket) -> Any:
    while True:
        message = await socket.app.receive_output(TIMEOUT)
        if message["type"] == "websocket.close":
            yield str(message["code"])
            return
        yield message["text"]


def is_end(transport: str, last: str, code: int) -> bool:
    if transport == "socket":
        return last == str(code)
    word = "UNAUTHENTICATED" if code == 4401 else "FORBIDDEN"
    return last.startswith("event: error\ndata: ") and word in last


def session_of(rest: Rest) -> str:
    return str(rest.client.cookies["sessionid"].value)
