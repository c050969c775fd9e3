"""A TCP proxy that can fall silent: its connections stay open, and nothing comes through."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Listens on a port of 127.0.0.1 and passes on to another, on the running loop."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._passing: set[asyncio.Event] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent = False
        self.port = 0

    def fall_silent(self) -> None:
        """From now on nothing passes through the connections that there are."""
        for passing in self._passing:
            passing.clear()

    def fall_dead(self) -> None:
        """Nor through new ones, which it takes all the same."""
        self._silent = True
        self.fall_silent()

    def live_again(self) -> None:
        """New connections pass. Those from before stay silent."""
        self._silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing = asyncio.Event()
        self._passing.add(passing)
        if not self._silent:
            passing.set()
        there, back = await asyncio.open_connection("127.0.0.1", self._to_port)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.ensure_future(_pass(source, sink, passing))
            self._tasks.add(task)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pass(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, passing: asyncio.Event
) -> None:
    try:
        while data := await source.read(65536):
            await passing.wait()
            sink.write(data)
            await sink.drain()
        await passing.wait()  # not even the end passes
    except ConnectionError:
        pass
    finally:
        sink.close()


@asynccontextmanager
async def running_proxy(to_port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """A proxy to that port of this machine, which speaks TLS to its clients where it is given."""
    proxy = Proxy(to_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
