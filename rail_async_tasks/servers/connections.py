"""WebSockets and streams of applications that are not ours: a drain ends them, so clients return.

A WebSocket has no end of its own, and servers end it in different ways: by 1012, by 1011, by
nothing. So the drain closes each with 1012, and drops what its consumer still sends: GraphQL's
`complete` would mean that a task's updates are over. Responses over HTTP get `drain_seconds`, as a
stream may be about to end by itself; only the `complete` of GraphQL over SSE is taken out of it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final
from weakref import WeakSet

from rail_async_tasks.hosting import server
from rail_async_tasks.servers.protocol import Application, Message, Receive, Scope, Send

# RFC 6455 and its registry: the client is to connect again.
SERVICE_RESTART: Final = 1012

# As GraphQL over SSE writes it: an event with this name, and no data.
_COMPLETE: Final = (
    b"event: complete\n\n", b"event: complete\ndata:\n\n", b"event: complete\ndata: \n\n"
)  # fmt: skip


class _Socket:
    """One WebSocket, between the server and its consumer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.answered = False  # accepted or refused, by its consumer
        self._closed = False

    async def send(self, message: Message) -> None:
        if self._closed:
            return
        self.answered = True
        self._closed = message["type"] == "websocket.close"
        await self._send(message)

    async def close(self) -> None:
        """Closes it, so that the client connects to another process."""
        if self._closed:
            return
        self._closed = True
        reason = "Service restart"
        with suppress(Exception):  # the client may have gone first
            await self._send({"type": "websocket.close", "code": SERVICE_RESTART, "reason": reason})


_open: WeakSet[_Socket] = WeakSet()


async def _close_all() -> None:
    await asyncio.gather(*(socket.close() for socket in list(_open)))


server.on_drain(_close_all)


def ended_by_drain(application: Application) -> Application:
    """Wraps an application, so that a drain closes its WebSockets with 1012."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            socket = _Socket(send)
            _open.add(socket)
            try:
                await application(scope, receive, socket.send)
            finally:
                _open.discard(socket)
        elif scope["type"] == "http":
            await application(scope, receive, _without_farewell(send))
        else:
            await application(scope, receive, send)

    return serve


def _without_farewell(send: Send) -> Send:
    async def pass_on(message: Message) -> None:
        if server.is_going_away() and _is_complete(message.get("body", b"")):
            message = {**message, "body": b""}
        await send(message)

    return pass_on


def _is_complete(body: bytes) -> bool:
    return len(body) < 40 and bytes(body).replace(b"\r\n", b"\n") in _COMPLETE
