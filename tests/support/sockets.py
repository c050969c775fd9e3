"""A WebSocket client of the application in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from asgiref.testing import ApplicationCommunicator

from rail_async_tasks.asgi import get_asgi_application
from tests.support.clock import FakeClock
from tests.support.waiting import TIMEOUT

# Seconds for an answer, which takes milliseconds: a loaded machine may take longer.
WAIT = TIMEOUT
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Socket:
    """A client of an ASGI application, by default the package's. `scope` is laid over its scope."""

    def __init__(
        self,
        protocols: tuple[str, ...] = ("graphql-transport-ws",),
        *,
        application: Any = None,
        scope: Mapping[str, Any] = NOTHING,
        **headers: str,
    ) -> None:
        self.app = ApplicationCommunicator(
            application or get_asgi_application(),
            {
                "type": "websocket",
                "path": "/graphql/",
                "query_string": b"",
                "headers": [
                    (name.replace("_", "-").encode(), value.encode())
                    for name, value in headers.items()
                ],
                "subprotocols": list(protocols),
                **scope,
            },
        )

    async def open(self) -> Any:
        await self.app.send_input({"type": "websocket.connect"})
        return await self.app.receive_output(WAIT)

    async def send(self, frame: Any) -> None:
        await self.send_text(json.dumps(frame))

    async def send_text(self, text: str) -> None:
        await self.app.send_input({"type": "websocket.receive", "text": text})

    async def receive(self) -> Any:
        """The next frame, decoded."""
        message = await self.app.receive_output(WAIT)
        assert message["type"] == "websocket.send", message
        return json.loads(message["text"])

    async def closed(self) -> int | None:
        """The code of the close that comes next."""
        message = await self.app.receive_output(WAIT)
        assert message["type"] == "websocket.close", message
        self.reason = message.get("reason", "")
        code: int | None = message.get("code")
        return code

    async def is_silent(self) -> bool:
        """Return whether nothing was sent by the time that all tasks of the loop wait."""
        await FakeClock().settle()
        if self.app.future.done():
            self.app.future.result()
        return bool(self.app.output_queue.empty())

    async def ready(self, payload: Any = None) -> None:
        await self.open()
        given = {} if payload is None else {"payload": payload}
        await self.send({"type": "connection_init", **given})
        assert await self.receive() == {"type": "connection_ack"}

    async def subscribe(self, query: str, id_: str = "1", **variables: Any) -> None:
        payload = {"query": query, "variables": variables}
        await self.send({"type": "subscribe", "id": id_, "payload": payload})

    async def leave(self, code: int = 1000) -> None:
        await self.app.send_input({"type": "websocket.disconnect", "code": code})
        await self.app.wait(WAIT)


@asynccontextmanager
async def connected(payload: Any = None, **headers: str) -> AsyncIterator[Socket]:
    socket = Socket(**headers)
    await socket.ready(payload)
    try:
        yield socket
    finally:
        await socket.leave()
