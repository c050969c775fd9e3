"""A server in this process's loop, and clients of its streams in another process."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.environment import ROOT

_servers: dict[Any, int] = {}
_serving: list[asyncio.Task[None]] = []


async def served(make: Callable[[], Any], **options: Any) -> int:
    """Returns the port of what `make` makes, which is served until the process ends."""
    if make not in _servers:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        config = uvicorn.Config(make(), port=0, log_level="error", backlog=4096, **options)
        server = uvicorn.Server(config)
        _serving.append(asyncio.create_task(server.serve()))
        while not server.started:  # noqa: ASYNC110 - it signals nothing
            await asyncio.sleep(0.01)
        _servers[make] = server.servers[0].sockets[0].getsockname()[1]
    return _servers[make]


class Clients:
    """The process of the clients."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self) -> dict[str, Any]:
        """Returns the next line that it has written."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        found: dict[str, Any] = json.loads(line)
        return found


@asynccontextmanager
async def clients(port: int, spec: Mapping[str, Any]) -> AsyncIterator[Clients]:
    """Starts clients of a task's stream; they open their connections at once."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.stream_clients", cwd=ROOT, stdin=pipe, stdout=pipe
    )
    assert process.stdin is not None
    whole = {"port": port, "cookies": [], "probe": None, "payload": {}, "deflate": False, **spec}
    process.stdin.write(json.dumps(whole).encode() + b"\n")
    await process.stdin.drain()
    try:
        yield Clients(process)
    finally:
        process.kill()
        await process.wait()


def resident_bytes() -> int:
    """Returns what this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
