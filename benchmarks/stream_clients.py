"""Clients of a task's stream, many in one process: a spec as JSON on the first line of the input.

They speak just enough of WebSocket, HTTP and server-sent events to cost little beside the server
that is measured. `benchmarks.streams` starts them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import statistics
import sys
import time
import zlib
from collections import Counter
from typing import Any, Final
from urllib.parse import quote

# One address has 28,000 ports for its clients; there are more addresses.
SOCKETS_PER_ADDRESS: Final = 5_000
# Connections that open at once; as many as there are do so at a reconnect.
OPENING: Final = 50

SENT = re.compile(rb'"progress_?[mM]essage":\s?"(\d+)"')
DOCUMENT = (
    "subscription Follow($id: ID!) {"
    " taskProgress(taskId: $id) { id status progress progressMessage } }"
)


class Arrivals:
    """What has arrived, over all clients: each event is named by the nanosecond of its report."""

    def __init__(self, clients: int, events: int) -> None:
        self._clients, self._expected = clients, clients * events
        self.joined = 0
        self.everybody_joined = asyncio.Event()
        self.complete = asyncio.Event()
        self.counts: Counter[int] = Counter()
        self.last: dict[int, int] = {}
        self.count = self.ended = 0

    def join(self) -> None:
        self.joined += 1
        if self.joined == self._clients:
            self.everybody_joined.set()

    def receive(self, sent: int) -> None:
        now = time.monotonic_ns()
        self.counts[sent] += 1
        self.last[sent] = now
        self.count += 1
        if self.count == self._expected:
            self.complete.set()

    def end(self) -> None:
        """Notes that a client has the last event of all; a slow one may have missed others."""
        self.ended += 1
        if self.ended == self._clients:
            self.complete.set()

    def metrics(self) -> dict[str, Any]:
        whole = [sent for sent, count in self.counts.items() if count == self._clients]
        return {
            "deliveries": self.count,
            "events": len(self.counts),
            "events to all": len(whole),
            "last ms": [(self.last[sent] - sent) / 1e6 for sent in whole],
            "cpu": time.process_time(),
        }


class Client(asyncio.Protocol):
    """One connection: sends its request, and finds events in what comes back."""

    def __init__(self, spec: dict[str, Any], arrivals: Arrivals, number: int) -> None:
        self._spec, self._arrivals = spec, arrivals
        cookies = spec["cookies"]
        self._headers = [f"Cookie: {cookies[number % len(cookies)]}"] if cookies else []
        self._unread = b""
        self._joined = False
        self._last = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request())

    def request(self) -> bytes:
        raise NotImplementedError

    def head(self, method: str, path: str, *more: str) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *more, *self._headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def seen(self, text: bytes) -> None:
        """Handles one event of the stream; the end has the last report once more, or first."""
        found = SENT.search(text)
        if found is not None and self._joined and found[1] != self._last:
            self._last = found[1]
            self._arrivals.receive(int(found[1]))
        if b'"completed"' in text:
            self._arrivals.end()
        if not self._joined:
            self._joined = True
            self._arrivals.join()


class EventStream(Client):
    """GraphQL over SSE, or REST's events."""

    def request(self) -> bytes:
        task = self._spec["task"]
        path = f"/api/v1/tasks/{task}/events/"
        if self._spec["kind"] == "sse":
            path = f"/graphql/?query={quote(DOCUMENT)}&variables={quote(json.dumps({'id': task}))}"
        return self.head("GET", path, "Accept: text/event-stream")

    def data_received(self, data: bytes) -> None:
        *events, self._unread = (self._unread + data).split(b"\n\n")
        for event in events:
            if b"data: {" in event:
                self.seen(event)


class WebSocket(Client):
    """GraphQL over a WebSocket, by graphql-transport-ws."""

    def request(self) -> bytes:
        self._open = False
        self._inflate: Any = None
        more = ["Sec-WebSocket-Extensions: permessage-deflate"] if self._spec["deflate"] else []
        return self.head(
            "GET", "/graphql/", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: graphql-transport-ws", *more,
        )  # fmt: skip

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        if not self._open:
            head, ended, data = data.partition(b"\r\n\r\n")
            if not ended:
                self._unread = head
                return
            if b" 101 " not in head[:20]:
                raise SystemExit(f"A handshake was refused: {head[:200]!r}")
            self._open = True
            if b"permessage-deflate" in head:
                self._inflate = zlib.decompressobj(-15)
            self.send({"type": "connection_init", "payload": self._spec["payload"]})
            self.send({
                "type": "subscribe", "id": "1",
                "payload": {"query": DOCUMENT, "variables": {"id": self._spec["task"]}},
            })  # fmt: skip
        self._unread = self._frames(data)

    def _frames(self, data: bytes) -> bytes:
        begin = 0
        while len(data) - begin >= 2:
            size, at = data[begin + 1] & 127, begin + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size, at = int.from_bytes(data[at : at + width]), at + width
            if len(data) < at + size:
                break
            self._frame(data[begin], data[at : at + size])
            begin = at + size
        return data[begin:]

    def _frame(self, head: int, text: bytes) -> None:
        if head & 15 == 9:  # a ping: pong, with a mask of zeros
            self.transport.write(bytes((0x8A, 0x80 | len(text))) + bytes(4) + text)
            return
        if head & 15 == 8:
            self.transport.close()
            return
        if head & 64:
            text = self._inflate.decompress(text + b"\x00\x00\xff\xff")
        if b'"next"' in text:
            self.seen(text)
        elif b'"error"' in text:
            raise SystemExit(f"A subscription was refused: {text[:200]!r}")

    def send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        size = bytes((0x80 | len(text),))
        if len(text) >= 126:
            size = bytes((0x80 | 126,)) + len(text).to_bytes(2)
        self.transport.write(b"\x81" + size + bytes(4) + text)


async def ask(port: int, path: str, waits: list[float]) -> None:
    """Asks for a page 50 times a second, as another client; notes how long it takes, in ms."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        begun = time.perf_counter()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        size = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if size is not None:
            await reader.readexactly(int(size[1]))
        waits.append((time.perf_counter() - begun) * 1e3)
        await asyncio.sleep(0.02)


async def main() -> None:
    """Opens the connections and writes a line; when all events have arrived, another one."""
    loop = asyncio.get_running_loop()
    spec = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    clients = spec["clients"]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    arrivals = Arrivals(clients, spec["events"])
    opening = asyncio.Semaphore(spec.get("opening", OPENING))
    kind = WebSocket if spec["kind"] == "ws" else EventStream
    begun = time.perf_counter()
    waits: list[float] = []
    asking = None
    if spec["probe"]:
        asking = asyncio.create_task(ask(spec["port"], spec["probe"], waits))

    async def connect(number: int) -> None:
        async with opening:
            address = f"127.0.0.{2 + number // SOCKETS_PER_ADDRESS}"
            await loop.create_connection(
                lambda: kind(spec, arrivals, number),
                "127.0.0.1",
                spec["port"],
                local_addr=(address, 0),
            )

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(connect(number))
    await arrivals.everybody_joined.wait()
    joined = {"seconds to join": time.perf_counter() - begun}
    if asking is not None:
        while len(waits) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        asking.cancel()
        joined["p99 ms"] = statistics.quantiles(waits, n=100)[98]
    print(json.dumps(joined), flush=True)
    await arrivals.complete.wait()
    print(json.dumps(arrivals.metrics()), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    os._exit(0)  # closes the sockets without a word for each


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
