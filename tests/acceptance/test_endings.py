"""Servers that end without a signal to them, and servers that send no lifespan."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.acceptance.ends import end_of_socket, end_of_stream, handed_back, left_open
from tests.acceptance.test_servers import until_completed, waits
from tests.support.client import Client
from tests.support.places import Place
from tests.support.server import Server, running_server
from tests.support.server_kinds import ASGI, KINDS, Kind
from tests.support.waiting import TIMEOUT, eventually, no

pytestmark = pytest.mark.parametrize("place", ["sqlite"], indirect=True)

DRAIN_SECONDS = 1
# Long enough for a body to end that only waits for a file, also on a busy machine.
LONGER_DRAIN_SECONDS = 4


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def client_of(server: Server, place: Place, stack: AsyncExitStack) -> Client:
    client = Client(server, place.cookies["ada"])
    stack.push_async_callback(client.http.aclose)
    return client


def place_of(client: Client, path: str) -> str:
    return client.server.url.replace("/graphql/", path)


# --- without a signal ----------------------------------------------------------------------------


def _with(name: str, *options: str) -> Kind:
    """A server with one worker, which ends after 30 requests with an option for that."""
    kind = KINDS[name]
    command = tuple(word for word in kind.command if word not in ("--workers=2", ASGI))
    return replace(kind, command=(*command, *options, ASGI), runtimes=1)


LIMIT = "30"
GUNICORN = ("--workers=1", f"--max-requests={LIMIT}")
# What ends a worker: as many requests; a reload, which SIGHUP to the server means to all these; or
# SIGTERM to the worker itself, as systemd sends it to each process of a service.
ENDINGS = {
    "gunicorn-limit": (_with("gunicorn-uvicorn", *GUNICORN), None),
    "gunicorn-reload": (_with("gunicorn-uvicorn", "--workers=1"), signal.SIGHUP),
    "gunicorn-asgi-limit": (_with("gunicorn-asgi", *GUNICORN), None),
    "gunicorn-asgi-reload": (_with("gunicorn-asgi", "--workers=1"), signal.SIGHUP),
    "hypercorn-limit": (_with("hypercorn", f"--max-requests={LIMIT}"), None),
    "hypercorn-reload": (_with("hypercorn"), signal.SIGHUP),
    "hypercorn-sigterm": (_with("hypercorn"), signal.SIGTERM),
    "granian-reload": (_with("granian"), signal.SIGHUP),
}


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        pytest.param(*ending, id=name, marks=[pytest.mark.long] * (name != "gunicorn-limit"))
        for name, ending in ENDINGS.items()
    ],
)
async def test_a_worker_that_is_replaced_drains(
    place: Place, kind: Kind, number: int | None, stack: AsyncExitStack
) -> None:
    """Its streams end so that clients come back; its tasks go on in the next worker."""
    with running_server(place.env, kind=kind, drain_seconds=DRAIN_SECONDS) as server:
        ada = client_of(server, place, stack)
        ids = [await ada.start("survive") for _ in range(2)]
        for task_id in ids:
            await ada.until(task_id, "running")
        sockets, lines = await left_open(ada, ids, stack)
        ends = asyncio.gather(*map(end_of_socket, sockets), *map(end_of_stream, lines))
        if number is not None:
            os.kill(await worker() if number == signal.SIGTERM else server.pid, number)
        while not ends.done():
            with suppress(httpx.TransportError):
                await ada.http.get(place_of(ada, "/tasks/health/live"))
            await asyncio.wait({ends}, timeout=0.01)
        ended = await ends
        assert {code for code, _ in ended[: len(sockets)]} == {1012}
        assert [said for said in ended[len(sockets) :] if "complete" in said] == []
        await until_completed(*ids)  # by the next worker
        for task_id in ids:
            row = await TaskExecution.objects.aget(id=task_id)
            assert (row.attempts, row.retry_count, row.crashes) == (2, 0, 0)
        assert "WORKER TIMEOUT" not in server.said()  # from gunicorn, after 30 s


async def worker() -> int:
    """The id of the one process that runs tasks."""
    runtime = await TaskRuntime.objects.aget(dead=False)
    return int(runtime.place.rpartition(" ")[2])


# --- without lifespan ----------------------------------------------------------------------------


def _serving(name: str, application: str, *options: str) -> Kind:
    kind = KINDS[name]
    command = tuple(word for word in kind.command if word not in ("--workers=2", ASGI))
    return replace(
        kind, command=(*command, *options, application), runtimes=1, starts_with_server=False
    )


DJANGO, ROUTER = (
    "tests.projects.acceptance.applications:django",
    "tests.projects.acceptance.applications:router",
)
WITHOUT_LIFESPAN = {
    "uvicorn-off": _serving("uvicorn", ASGI, "--lifespan=off"),
    "gunicorn-django": _serving("gunicorn-uvicorn", DJANGO),
    "uvicorn-router": _serving("uvicorn", ROUTER),
    "gunicorn-asgi-django": _serving("gunicorn-asgi", DJANGO),
    "hypercorn-router": _serving("hypercorn", ROUTER),
    "granian-router": _serving("granian", ROUTER),
    "granian-off": _serving("granian", ASGI, "--interface=asginl"),
    "daphne-router": _serving("daphne", ROUTER),
}
SHORT = ("uvicorn-off", "gunicorn-django")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=name, marks=[pytest.mark.long] * (name not in SHORT))
        for name, kind in WITHOUT_LIFESPAN.items()
    ],
)
async def test_a_server_without_lifespan(
    place: Place, kind: Kind, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """The first request starts the runtime and logs the remedy; the server's end drains."""
    waiting = await waits()
    sockets: list[Any] = []
    with running_server(place.env, kind=kind, drain_seconds=LONGER_DRAIN_SECONDS) as server:
        ada = client_of(server, place, stack)
        assert not await TaskRuntime.objects.filter(dead=False).aexists()
        if DJANGO in kind.command:
            assert (await ada.http.get(place_of(ada, "/nowhere/"))).status_code == 404
        else:
            sockets.append(await stack.enter_async_context(ada.socket()))
        await until_completed(waiting)
        assert "The server has sent no ASGI lifespan" in server.said()
        ready = (await ada.http.get(place_of(ada, "/tasks/health/ready"))).json()
        assert ready["status"] == "ok"
        assert "lifespan" in ready["warnings"]
        ids = [await ada.start(call) for call in ("survive", "surviveInThread")]
        others = TaskExecution.objects.exclude(status="running")
        await eventually(lambda: no(others.filter(id__in=ids).aexists()), every=0.02)
        short = await ada.start(f'climb(steps: 1, pause: 0, seen: "{tmp_path}")')
        # Not by a subscription: not each of these servers has WebSockets.
        await eventually(lambda: no(others.filter(id=short).aexists()), every=0.02)
        body = "subscription($id: ID!) { taskProgress(taskId: $id) { status } }"
        lines = await stack.enter_async_context(ada.sse(body, {"id": ids[0]}))
        await anext(lines)
        ends = asyncio.gather(*map(end_of_socket, sockets), end_of_stream(lines))
        server.terminate()
        (tmp_path / "step 1").touch()
        assert await asyncio.to_thread(server.wait, TIMEOUT) in kind.exit_codes
        ended = await ends
        assert [code for code, _ in ended[:-1]] == [1012] * len(sockets)
        assert "complete" not in ended[-1]
        assert server.alarms() == []
    await handed_back(ids)
    assert (await TaskExecution.objects.aget(id=short)).status == "completed"
    await TaskExecution.objects.all().adelete()
