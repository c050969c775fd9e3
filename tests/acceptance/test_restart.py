"""A server that gets SIGTERM, and the one that takes over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from rail_async_tasks.models import TaskExecution
from tests.acceptance.ends import end_of_socket, end_of_stream, handed_back, left_open
from tests.support.client import Client
from tests.support.places import Place, mostly_on_postgres
from tests.support.server import Server, running_server
from tests.support.server_kinds import KINDS
from tests.support.waiting import TIMEOUT

pytestmark = mostly_on_postgres

# Long enough for a body to end that only waits for a file, also on a busy machine.
DRAIN_SECONDS = 4


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_sigterm_hands_running_tasks_to_the_next_server(
    place: Place, server_loop: str, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """With streams open it ends in silence; its tasks cost no retry and go on."""
    kind = KINDS["uvicorn" if server_loop == "asyncio" else "uvicorn-uvloop"]  # a real start
    with running_server(place.env, kind=kind, drain_seconds=DRAIN_SECONDS) as server:
        client = Client(server, place.cookies["ada"])
        stack.push_async_callback(client.http.aclose)
        ids = [await client.start("survive"), await client.start("survive"),
               await client.start("surviveInThread")]  # fmt: skip
        short = await client.start(f'climb(steps: 1, pause: 0, seen: "{tmp_path}")')
        for task_id in (*ids, short):
            await client.until(task_id, "running")
        sockets, streams = await left_open(client, ids, stack)
        ends = asyncio.gather(*map(end_of_socket, sockets), *map(end_of_stream, streams))
        server.terminate()
        (tmp_path / "step 1").touch()
        await stopped(server)
        endings = await ends
    await handed_back(ids)
    assert (await TaskExecution.objects.aget(id=short)).status == "completed"
    with running_server(place.env, loop=server_loop, drain_seconds=1) as server:
        client = Client(server, place.cookies["ada"])
        stack.push_async_callback(client.http.aclose)
        for task_id in ids:
            last = await client.final(task_id)
            assert (last["status"], last["result"]) == ("completed", 2)
            assert (last["attempts"], last["retryCount"]) == (2, 0)
    # Clients come back: no stream says that a task's updates are over.
    assert [code for code, _ in endings[: len(sockets)]] == [1012] * len(sockets)
    assert [said for _, said in endings[: len(sockets)] if "complete" in said] == []
    assert [said for said in endings[len(sockets) :] if "complete" in said] == []


async def stopped(server: Server) -> None:
    """Sees the process end as it should, though some bodies never end."""
    exit_code = await asyncio.to_thread(server.wait, TIMEOUT)
    assert exit_code in server.kind.exit_codes
    assert "Finished server process" in server.said()
    assert "ERROR" not in server.said()
    assert server.alarms() == []
