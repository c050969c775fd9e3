"""Fifty connections that send one kind of request as fast as they are answered.

    python -m tests.faults.attackers KIND PORT COOKIE SECONDS

Prints how many answers it read, as JSON. A process of its own, so that the caller whose latencies
are measured shares no interpreter with it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import connect

CONNECTIONS = 50
GRAPHQL = "/graphql/"


def aliases(size: int) -> str:
    field = 'a%d:task(id:"x"){id} '
    return "{" + "".join(field % number for number in range(size // len(field % 10_000))) + "}"


def bomb() -> str:
    """A document whose fragments spread out to 2**30 fields."""
    spread = "fragment F{0} on TaskMutationPayload {{ task {{ id }} ...F{1} ...F{1} }}"
    fragments = " ".join(spread.format(n, n + 1) for n in range(30))
    return "{ ...G0 } fragment G0 on Query { __typename } " + fragments


def starts(count: int) -> str:
    return "mutation {" + "".join(f"m{n}: linger {{ taskId }} " for n in range(count)) + "}"


def body_of(query: str) -> bytes:
    return json.dumps({"query": query}).encode()


def request(
    cookie: str, path: str = GRAPHQL, body: bytes = b"", method: str = "POST", **headers: str
) -> bytes:
    """The bytes of an HTTP request on a connection that stays open."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    if cookie:
        lines.append(f"cookie: {cookie}")
    given = {"content_type": "application/json", **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


Requests = Callable[[str], bytes]
HTTP: dict[str, Requests] = {
    "honest queries": lambda cookie: request(
        cookie, body=body_of("{ tasks(limit: 10) { id name status progress } }")
    ),
    "aliases over HTTP": lambda _: request("", body=body_of(aliases(225 * 1024))),
    "a fragment bomb": lambda _: request("", body=body_of(bomb())),
    "950 mutations": lambda _: request("", body=body_of(starts(950))),
    "large results": lambda cookie: request(
        cookie, body=body_of("{ tasks(limit: 500) { result } }")
    ),
    "large REST lists": lambda cookie: request(cookie, "/api/v1/tasks/?limit=500", method="GET"),
    "anonymous starts": lambda _: request("", body=body_of(starts(20))),
    "bad bearers": lambda _: request(
        "", body=body_of("{ tasks { id } }"), authorization="Bearer " + "a.b." * 3000
    ),
    "malformed bodies": lambda _: request(
        "", body=b"--x\r\n" * 2000, content_type="multipart/form-data"
    ),
}  # fmt: skip


async def over_http(port: int, sent: bytes, until: float) -> int:
    """Sends it again and again on one connection; opens another where the server closes it."""
    answers = 0
    while time.monotonic() < until:
        with suppress(OSError, asyncio.IncompleteReadError, ValueError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while time.monotonic() < until:
                    writer.write(sent)
                    await writer.drain()
                    await answer(reader)
                    answers += 1
            finally:
                writer.close()
    return answers


async def answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"content-length:" in head:
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
    elif b"chunked" in head:
        while (size := int(await reader.readline(), 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readline()


async def event_streams(port: int, until: float) -> int:
    """Opens streams and keeps them, six for each connection."""
    query = "subscription { myTaskUpdates { id } }"
    sent = request("", body=body_of(query), accept="text/event-stream")
    opened, kept = 0, []
    while time.monotonic() < until:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            with suppress(asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
            kept.append(writer)
            opened += 1
            if len(kept) > 6:
                kept.pop(0).close()
    for writer in kept:
        writer.close()
    return opened


def frame(random_: random.Random) -> str:
    """A frame that is none."""
    rubbish: list[Any] = [[], 1, None, "x" * 1000, {"type": "subscribe", "id": [1]}, {"type": 7}]
    return json.dumps(random_.choice(rubbish))


async def over_sockets(port: int, frames: Callable[[], str], until: float) -> int:
    """Sends frames on a socket until it is closed, then opens another."""
    sent = 0
    while time.monotonic() < until:
        with suppress(Exception):
            async with connect(
                f"ws://127.0.0.1:{port}/graphql/",
                subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
                max_size=None,
            ) as ws:
                await ws.send('{"type": "connection_init"}')
                await ws.recv()
                while time.monotonic() < until:
                    await ws.send(frames())
                    sent += 1
                    await ws.recv()
    return sent


def subscribing(query: str) -> str:
    return json.dumps({"type": "subscribe", "id": "1", "payload": {"query": query}})


RUBBISH = random.Random(7)
LONG_FRAME = subscribing(aliases(197 * 1024))
SOCKETS: dict[str, Callable[[], str]] = {
    "aliases over WebSocket": lambda: LONG_FRAME,
    "malformed frames": lambda: frame(RUBBISH),
}
STREAMS = "event streams"
ATTACKS = (*(it for it in HTTP if it != "honest queries"), *SOCKETS, STREAMS)


def one(kind: str, port: int, cookie: str, until: float) -> Awaitable[int]:
    if kind in HTTP:
        return over_http(port, HTTP[kind](cookie), until)
    if kind == STREAMS:
        return event_streams(port, until)
    return over_sockets(port, SOCKETS[kind], until)


async def main(kind: str, port: str, cookie: str, seconds: str) -> None:
    until = time.monotonic() + float(seconds)
    work = [one(kind, int(port), cookie, until) for _ in range(CONNECTIONS)]
    # A connection whose answer does not come is left.
    running = [asyncio.ensure_future(it) for it in work]
    done, late = await asyncio.wait(running, timeout=float(seconds) + 1)
    for task in late:
        task.cancel()
    answers = sum(it.result() for it in done)
    sys.stdout.write(json.dumps({"answers": answers, "late": len(late)}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
