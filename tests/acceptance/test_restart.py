"""A server that is told to stop, and the one that takes over."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from rail_async_tasks.models import TaskExecution
from tests.acceptance.client import FOLLOW, FOLLOW_MINE, PATIENCE, Client, subscribe
from tests.acceptance.conftest import Place
from tests.acceptance.server import Server, running_server

DRAIN_SECONDS = 1

# uvicorn ends what it has to end, then raises the signal that it was sent once more.
GRACEFUL = (0, 256 - signal.SIGTERM)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def left_open(
    client: Client, ids: list[str], stack: AsyncExitStack
) -> tuple[list[Any], list[Any]]:
    """Opens sockets and SSE streams of every kind that none of these tasks will end."""
    sockets, streams = [], []
    for query in (FOLLOW, FOLLOW_MINE):
        for task_id in ids:
            ws = await stack.enter_async_context(client.socket())
            await subscribe(ws, query, {"id": task_id} if query == FOLLOW else {})
            await ws.recv()
            sockets.append(ws)
            lines = await stack.enter_async_context(
                client.sse(query, {"id": task_id} if query == FOLLOW else {})
            )
            await anext(lines)
            streams.append(lines)
    idle = await stack.enter_async_context(client.socket())
    return [*sockets, idle], streams


async def end_of_stream(events: Any) -> list[str]:
    """The names of the events that an SSE stream still says."""
    names = []
    with suppress(httpx.RemoteProtocolError):  # it may be cut off, too
        async with asyncio.timeout(PATIENCE):
            async for name, _ in events:
                names.append(name)
    return names


async def end_of_socket(ws: Any) -> tuple[int | None, list[str]]:
    """The code with which a socket is closed, and the kinds of messages that come before."""
    said = []
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                said.append(json.loads(await ws.recv())["type"])
    except ConnectionClosed as closed:
        return (None if closed.rcvd is None else closed.rcvd.code), said


async def test_sigterm_hands_running_tasks_to_the_next_server(
    place: Place, server_loop: str, stack: AsyncExitStack
) -> None:
    """With streams open it ends in time and in silence; its tasks cost no retry and go on."""
    with running_server(place.env, loop=server_loop, drain_seconds=DRAIN_SECONDS) as server:
        client = Client(server, place.cookies["ada"])
        stack.push_async_callback(client.http.aclose)
        ids = [await client.start("survive"), await client.start("survive"),
               await client.start("surviveInThread")]  # fmt: skip
        short = await client.start("climb(steps: 3, pause: 0.2)")
        for task_id in ids:
            await client.until(task_id, "running")
        sockets, streams = await left_open(client, ids, stack)
        ends = asyncio.gather(*map(end_of_socket, sockets), *map(end_of_stream, streams))
        await stop(server)
        told = await ends
    await handed_back(ids)
    assert (await TaskExecution.objects.aget(id=short)).status == "completed"
    with running_server(place.env, loop=server_loop, drain_seconds=DRAIN_SECONDS) as server:
        client = Client(server, place.cookies["ada"])
        stack.push_async_callback(client.http.aclose)
        for task_id in ids:
            last = await client.final(task_id)
            assert (last["status"], last["result"]) == ("completed", 2)
            assert (last["attempts"], last["retryCount"]) == (2, 0)
    # Clients come back: nobody is told that a task's updates are over.
    assert [code for code, _ in told[: len(sockets)]] == [1012] * len(sockets)
    assert [said for _, said in told[: len(sockets)] if "complete" in said] == []
    assert [said for said in told[len(sockets) :] if "complete" in said] == []


async def stop(server: Server) -> None:
    """Sends SIGTERM and sees the process end as it should."""
    began = time.monotonic()
    server.terminate()
    exit_code = await asyncio.to_thread(server.wait, PATIENCE)
    assert time.monotonic() - began < DRAIN_SECONDS + 2
    assert exit_code in GRACEFUL
    assert "Finished server process" in server.said()
    assert "ERROR" not in server.said()
    assert server.alarms() == []


async def handed_back(ids: list[str]) -> None:
    """The rows wait for another process, as if the attempt had not been."""
    for task_id in ids:
        row = await TaskExecution.objects.aget(id=task_id)
        assert (row.status, row.retry_count, row.attempts) == ("retrying", 0, 1)
        assert row.run_after is None
        assert row.runtime_id is None
