"""An ASGI application without a framework that speaks as our streams do, for one task."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_EXECUTION = {"id": "00000000-0000-0000-0000-000000000001", "status": "running", "progress": 0}
_waiting: set[asyncio.Future[bytes]] = set()


async def publish(count: int, pause: float) -> None:
    """Reports the clock."""
    for number in range(count):
        await asyncio.sleep(pause)
        execution = {**_EXECUTION, "progress": number, "progressMessage": str(time.monotonic_ns())}
        event = json.dumps({"data": {"taskProgress": execution}}).encode()
        for reader in list(_waiting):
            if not reader.done():  # its client may have gone
                reader.set_result(event)
        _waiting.clear()


def make_application() -> Callable[..., Any]:
    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
        elif scope["type"] == "websocket":
            await _speak(receive, send)
        elif "/health/" in scope["path"]:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await _stream(send)

    return application


async def _events() -> Any:
    yield json.dumps({"data": {"taskProgress": _EXECUTION}}).encode()
    while True:
        reader: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        _waiting.add(reader)
        yield await reader


async def _speak(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "graphql-transport-ws"})
    await receive()
    await send({"type": "websocket.send", "text": '{"type": "connection_ack"}'})
    await receive()
    writing = asyncio.create_task(_write(send))
    while (await receive())["type"] != "websocket.disconnect":
        pass
    writing.cancel()


async def _write(send: Send) -> None:
    async for event in _events():
        text = '{"id": "1", "type": "next", "payload": ' + event.decode() + "}"
        await send({"type": "websocket.send", "text": text})


async def _stream(send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for event in _events():
        body = b"event: next\ndata: " + event + b"\n\n"
        await send({"type": "http.response.body", "body": body, "more_body": True})
