"""Servers between the signal to stop and their end, where they differ."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from devservers.process import accepts
from rail_async_tasks.conf import LimitSettings
from rail_async_tasks.models import TaskExecution
from tests.acceptance.ends import handed_back
from tests.support.client import Client
from tests.support.places import Place
from tests.support.server import Server, running_server
from tests.support.server_kinds import KINDS
from tests.support.waiting import TIMEOUT, eventually

pytestmark = pytest.mark.parametrize("place", ["sqlite"], indirect=True)

Serve = Callable[..., Client]


@pytest.fixture
async def serve(place: Place) -> AsyncIterator[Serve]:
    """Starts a server of a kind; returns a client of it."""
    async with AsyncExitStack() as stack:

        def serve(kind: str, **task_settings: float) -> Client:
            server = stack.enter_context(
                running_server(place.env, kind=KINDS[kind], **task_settings)
            )
            client = Client(server, place.cookies["ada"])
            stack.push_async_callback(client.http.aclose)
            return client

        yield serve


# So long that no test waits for it: a server that did would fail the test.
LONG_DRAIN_SECONDS = 3600


async def ends(server: Server) -> float:
    """Waits for its end, a good one. Returns how long that took, in seconds."""
    began = time.monotonic()
    assert await asyncio.to_thread(server.wait, TIMEOUT) in server.kind.exit_codes
    return time.monotonic() - began


@pytest.mark.long
@pytest.mark.parametrize("kind", ["uvicorn", "daphne"])
async def test_running_tasks_get_their_time(serve: Serve, kind: str) -> None:
    """All of `drain_seconds`, with nothing else left to wait for; and no longer than they need."""
    client = serve(kind, drain_seconds=8)
    task_id = await client.start("climb(steps: 12, pause: 0.5)")
    await client.until(task_id, "running")
    client.server.terminate()
    assert 5 < await ends(client.server) < 8
    row = await TaskExecution.objects.aget(id=task_id)
    assert (row.status, row.attempts) == ("completed", 1)


@pytest.mark.parametrize("kind", ["uvicorn", "daphne"])
async def test_a_second_ctrl_c_ends_the_wait(serve: Serve, kind: str) -> None:
    """Running tasks are handed back at once; a second SIGTERM changes nothing."""
    client = serve(kind, drain_seconds=LONG_DRAIN_SECONDS)
    server = client.server
    ids = [await client.start(call) for call in ("survive", "surviveInThread")]
    for task_id in ids:
        await client.until(task_id, "running")
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        os.kill(server.pid, number)
        await asyncio.sleep(0.5)  # it would be about to end by then
        assert server.exit_code is None
        assert await TaskExecution.objects.filter(status="running").acount() == len(ids)
    os.kill(server.pid, signal.SIGINT)
    await ends(server)
    await handed_back(ids)


async def test_daphne_answers_what_it_was_asked(serve: Serve, tmp_path: Path) -> None:
    """A request that is under way when the signal comes; later ones find no listener."""
    client = serve("daphne", forked=True, drain_seconds=LONG_DRAIN_SECONDS)
    server = client.server
    late, folder = server.url.replace("/graphql/", "/plain/late"), str(tmp_path)
    asked = asyncio.create_task(client.http.get(late, params={"folder": folder}))
    await eventually((tmp_path / "asked").exists)
    server.terminate()
    await eventually(lambda: not accepts(server.port))
    (tmp_path / "answer").touch()
    assert (await asked).text == "late"
    await ends(server)


async def test_daphne_ends_with_a_stream_that_never_ends(serve: Serve) -> None:
    """One of the project's own: it has its time, then it is cut off, and the exit is a good one."""
    client = serve("daphne", forked=True, drain_seconds=1)
    ever = client.server.url.replace("/graphql/", "/plain/ever")
    async with client.http.stream("GET", ever) as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "still here"
        client.server.terminate()
        with pytest.raises(httpx.RemoteProtocolError):
            await consume(lines)
        await ends(client.server)


async def consume(lines: AsyncIterator[str]) -> None:
    async for line in lines:
        assert line == "still here"


@pytest.mark.long  # the scenario of test_servers.py has another such code
async def test_daphne_closes_sockets_with_any_code(serve: Serve) -> None:
    """Its own protocol refuses those of RFC 6455, and leaves the socket open."""
    client = serve("daphne", drain_seconds=1)
    async with client.socket() as ws, asyncio.timeout(TIMEOUT):
        await ws.send("x" * ((LimitSettings().frame_bytes or 0) + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("kind", ["daphne", pytest.param("daphne-uvloop", marks=pytest.mark.long)])
async def test_daphne_does_not_serve_what_cannot_start(place: Place, kind: str) -> None:
    """Wrong settings end it, with the code and the words that uvicorn has for it."""
    server = Server(place.env, kind=KINDS[kind], drain_seconds="soon")
    try:
        assert await asyncio.to_thread(server.wait, TIMEOUT) == 3
        assert "The task runtime could not start." in server.said()
        assert 'task_settings["drain_seconds"]' in server.said()
    finally:
        server.stop()
