"""A project's own ASGI application with `with_tasks` around it, and its own WebSocket routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import connect

from rail_async_tasks.models import TaskExecution
from tests.acceptance.ends import end_of_socket, end_of_stream, handed_back, left_open
from tests.acceptance.test_servers import until_completed, waits
from tests.support.client import Client
from tests.support.places import Place
from tests.support.server import Server, running_server
from tests.support.server_kinds import ASGI, KINDS, Kind
from tests.support.waiting import TIMEOUT

pytest.importorskip("starlette", reason="Starlette is not installed here.")
pytestmark = pytest.mark.parametrize("place", ["sqlite"], indirect=True)

APPLICATION = "tests.projects.acceptance.own_application:application"
SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.projects.acceptance.own_settings"}


def _serving(name: str, *options: str) -> Kind:
    kind = KINDS[name]
    command = tuple(APPLICATION if word == ASGI else word for word in kind.command)
    return replace(kind, command=(*command, *options), env={**kind.env, **SETTINGS})


SERVERS = {
    "uvicorn": _serving("uvicorn"),
    "daphne": _serving("daphne"),
    "runserver-daphne": replace(_serving("runserver-daphne", "--noreload"), reloads=False),
    "hypercorn": _serving("hypercorn"),
    "granian": _serving("granian"),
    "gunicorn-uvicorn": _serving("gunicorn-uvicorn"),
}
SHORT = ("uvicorn", "daphne")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=name, marks=[pytest.mark.long] * (name not in SHORT))
        for name, kind in SERVERS.items()
    ],
)
async def test_it_starts_serves_and_drains(place: Place, kind: Kind, stack: AsyncExitStack) -> None:
    """Its own lifespan, pages and sockets beside tasks and GraphQL's."""
    waiting = await waits()
    with running_server(place.env, kind=kind, forked=True, drain_seconds=1) as server:
        await until_completed(waiting)  # before any request
        ada = Client(server, place.cookies["ada"])
        stack.push_async_callback(ada.http.aclose)
        answer = await ada.http.get(server.url.replace("/graphql/", "/own"))
        assert answer.json() == {"opened": "a client"}
        assert server.said().count("starlette has opened") == kind.runtimes
        chat = await opened_chat(server, place, stack)
        assert (await ada.final(await ada.start("climb(steps: 2, pause: 0.05)")))["result"]

        ids = [await ada.start("survive")]
        await ada.until(ids[0], "running")
        sockets, lines = await left_open(ada, ids, stack)
        ends = asyncio.gather(
            end_of_socket(chat), *map(end_of_socket, sockets), *map(end_of_stream, lines)
        )
        server.terminate()
        exit_code = await asyncio.to_thread(server.wait, TIMEOUT)
        assert exit_code in kind.exit_codes
        endings = await ends
        assert {code for code, _ in endings[: 1 + len(sockets)]} == {1012}
        assert [said for said in endings[1 + len(sockets) :] if "complete" in said] == []
        assert server.alarms() == []
        assert server.said().count("starlette has closed") == kind.runtimes
        await handed_back(ids)
        assert not await TaskExecution.objects.filter(status="running").aexists()


async def opened_chat(server: Server, place: Place, stack: AsyncExitStack) -> Any:
    """A socket of the project's own route, which has answered."""
    chat = await stack.enter_async_context(
        connect(
            server.ws.replace("/graphql/", "/chat/"),
            additional_headers={"cookie": place.cookies["ada"]},
            proxy=None,
        )
    )
    assert await chat.recv() == "ada"
    await chat.send("hello")
    assert await chat.recv() == "hello"
    return chat


async def test_under_wsgi_it_is_not_used(place: Place, stack: AsyncExitStack) -> None:
    """`runserver` without daphne serves Django itself: tasks run, from the first request on."""
    kind = replace(KINDS["runserver"], env=SETTINGS)
    with running_server(place.env, kind=kind, drain_seconds=1) as server:
        ada = Client(server, place.cookies["ada"])
        stack.push_async_callback(ada.http.aclose)
        done = await ada.final(await ada.start("climb(steps: 2, pause: 0.05)"))
        assert done["status"] == "completed"
