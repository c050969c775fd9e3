"""A server that ends without a signal, by a request limit or its own event, drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import hypercorn.asyncio
import pytest
import uvicorn
from gunicorn.workers.gasgi import ASGIWorker
from hypercorn.asyncio.worker_context import WorkerContext

from devservers.process import free_port
from rail_async_tasks import TaskHandle, asgi, servers, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server as hosted_server
from rail_async_tasks.hosting.exit import exit_is_timed
from rail_async_tasks.servers import ending
from tests.support.runtimes import Configure, in_memory
from tests.support.waiting import TIMEOUT, eventually, until_status

pytestmark = [in_memory, pytest.mark.usefixtures("ends_cleanly")]


@pytest.fixture(autouse=True)
def back_again() -> Iterator[None]:
    """Later tests do not find a process that is going away."""
    servers.watch()  # as at the start of a project: here, these servers were imported after it
    yield
    hosted_server.reset()
    assert not exit_is_timed()  # a server has ended, this process goes on


async def application(scope: Any, receive: Any, send: Any) -> None:
    """`/<id>` streams a task's states, `/ever` streams for ever, anything else is answered."""
    if scope["type"] == "lifespan":
        await asgi.lifespan(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})

    async def write(words: str) -> None:
        await send({"type": "http.response.body", "body": words.encode(), "more_body": True})

    if scope["path"] == "/ever":
        await write("open")
        await asyncio.Event().wait()
    elif len(scope["path"]) > len("/short"):
        async for snapshot in service.watch(SYSTEM, scope["path"][1:]):
            await write(snapshot.status)
    await send({"type": "http.response.body"})


@dataclass
class Served:
    """A server in this process: its port, how it ends by itself, and its end."""

    port: int
    end: Callable[[], Awaitable[None]]
    ended: asyncio.Task[None]

    async def get(self, path: str) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
        self._writers.append(writer)
        return reader

    def __post_init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def get_until_it_ends(self) -> None:
        with suppress(OSError):
            while not hosted_server.is_going_away():
                await (await self.get("/short")).read()
                self.close_last()

    def close_last(self) -> None:
        self._writers.pop().close()

    def close(self) -> None:
        while self._writers:
            self.close_last()


@asynccontextmanager
async def uvicorn_server(*, by_limit: bool = False, **options: Any) -> AsyncIterator[Served]:
    server = uvicorn.Server(
        uvicorn.Config(
            application, port=0, log_config=None, limit_max_requests=2 if by_limit else None,
            **options,
        )
    )  # fmt: skip
    ended = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)

    async def end() -> None:
        if by_limit:
            await served.get_until_it_ends()
        else:
            server.should_exit = True

    served = Served(server.servers[0].sockets[0].getsockname()[1], end, ended)
    yield served
    served.close()
    server.force_exit = True
    await ended


@asynccontextmanager
async def hypercorn_server(*, by_limit: bool = False) -> AsyncIterator[Served]:
    config, stop = hypercorn.Config(), asyncio.Event()
    port = free_port()
    config.bind, config.errorlog = [f"127.0.0.1:{port}"], None
    config.graceful_timeout = 3600  # it does not cut off what we have to end
    config.max_requests = 2 if by_limit else None
    ended = asyncio.create_task(
        hypercorn.asyncio.serve(application, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
    )

    async def end() -> None:
        if by_limit:
            await served.get_until_it_ends()
        else:
            stop.set()

    served = Served(port, end, ended)
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                await (await served.get("/short")).read()
                served.close()
                break
            except OSError:
                await asyncio.sleep(0.01)
    yield served
    served.close()
    stop.set()
    await ended


SERVERS: dict[str, Callable[[], Any]] = {
    "uvicorn, by its limit": lambda: uvicorn_server(by_limit=True),
    "uvicorn, by its own event": uvicorn_server,
    "uvicorn, without lifespan": lambda: uvicorn_server(by_limit=True, lifespan="off"),
    "hypercorn, by its limit": lambda: hypercorn_server(by_limit=True),
    "hypercorn, by its own event": hypercorn_server,
}


async def running() -> TaskHandle[None]:
    """A task that runs until it is ended."""

    @task(name="end.hold")
    async def hold() -> None:
        await asyncio.Event().wait()

    handle = await hold.aenqueue()
    await until_status(handle, "running")
    return handle


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
async def test_streams_end_first_and_tasks_are_handed_back(
    configure: Configure, server: Callable[[], Any]
) -> None:
    """Whatever ends the server: an open stream does not hold it up, and no task is lost with it."""
    configure(drain_seconds=0.2)
    async with server() as served, asyncio.timeout(TIMEOUT):
        handle = await running()
        stream = await served.get(f"/{handle.id}")
        await stream.readuntil(b"running")
        await served.end()
        assert b"retrying" not in await stream.read()  # it ended before
        served.close()
        await served.ended
    assert (await handle.arefresh()).status == "retrying"


async def test_a_stream_of_the_projects_own_is_given_up(configure: Configure) -> None:
    """Nothing ends it; uvicorn waits for it no longer than for tasks, and tasks are handed back."""
    configure(drain_seconds=0.2)
    async with uvicorn_server() as served, asyncio.timeout(TIMEOUT):
        handle = await running()
        stream = await served.get("/ever")
        await stream.readuntil(b"open")
        await served.end()
        await served.ended
        assert (await handle.arefresh()).status == "retrying"


async def test_heartbeats_go_on_during_the_drain(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gunicorn aborts a worker that sends none for as long as its timeout."""
    configure(drain_seconds=10)
    monkeypatch.setattr(ending, "BEAT_INTERVAL", 0.01)
    beats = 0

    async def beat() -> None:
        nonlocal beats
        beats += 1

    async with uvicorn_server(callback_notify=beat, timeout_notify=3600) as served:
        handle = await running()
        before = beats
        await served.end()
        await eventually(lambda: beats > before + 3)
        assert (await handle.arefresh()).status == "running"
        host.hurry()
        await served.ended


async def test_a_server_beside_is_no_concern_of_ours(configure: Configure) -> None:
    """One in a loop in which no runtime lives, such as a server for metrics."""
    async with uvicorn_server(lifespan="off") as served:
        await served.end()
        await served.ended
    assert not hosted_server.is_going_away()


@pytest.mark.parametrize(
    ("owner", "name"),
    [(uvicorn.Server, "shutdown"), (ASGIWorker, "_shutdown"), (WorkerContext, "__init__")],
    ids=["uvicorn", "gunicorn", "hypercorn"],
)
async def test_what_we_hook_into_is_there(owner: type, name: str) -> None:
    """In the versions that are installed; a second time changes nothing."""
    servers.watch()
    hooked = getattr(owner, name)
    assert hasattr(hooked, "rail_async_tasks")
    servers.watch()
    assert getattr(owner, name) is hooked


async def test_a_server_that_has_changed_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A version without that method is served as before, and the log has it."""

    class Server:
        """A later version."""

    with caplog.at_level(logging.WARNING, "rail_async_tasks.servers"):
        ending.wrap(Server, "shutdown", lambda _: None)  # type: ignore[arg-type, return-value]
    assert "Server.shutdown differs from the version" in caplog.text
