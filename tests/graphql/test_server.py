"""Against a real uvicorn: streams, broken clients, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.client import plain_http
from tests.support.server import Server
from tests.support.shop_server import running_shop

FINAL = ("completed", "failed", "cancelled")
FOLLOW = (
    "subscription($id: ID!) { taskProgress(taskId: $id)"
    " { status progress progressMessage result seq step } }"
)


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The shop under uvicorn, in each loop."""
    with running_shop(tmp_path_factory, loop=request.param) as it:
        yield it


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with plain_http(timeout=10) as client:
        yield client


async def ask(http: httpx.AsyncClient, server: Server, query: str, **variables: Any) -> Any:
    response = await http.post(server.url, json={"query": query, "variables": variables})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert "errors" not in answer, answer
    return answer["data"]


async def start(http: httpx.AsyncClient, server: Server, steps: int, pause: float) -> str:
    query = "mutation($s: Int!, $p: Float!) { climb(steps: $s, pause: $p) { taskId status } }"
    payload = (await ask(http, server, query, s=steps, p=pause))["climb"]
    assert payload["status"] == "pending"
    return str(payload["taskId"])


async def finished(http: httpx.AsyncClient, server: Server, task_id: str) -> Any:
    """The task once it is final."""
    async with aclosing(by_socket(server, task_id)) as events:
        seen = [event async for event in events]
    assert seen[-1]["status"] in FINAL
    return seen[-1]


async def by_sse(
    http: httpx.AsyncClient, server: Server, task_id: str
) -> AsyncIterator[dict[str, Any]]:
    """Events of a task; ends with the stream's `complete`."""
    body = {"query": FOLLOW, "variables": {"id": task_id}}
    headers = {"accept": "text/event-stream", "accept-encoding": "gzip"}
    async with http.stream("POST", server.url, json=body, headers=headers) as response:
        assert response.headers["content-type"] == "text/event-stream"
        event = ""
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and event == "next":
                yield json.loads(line.removeprefix("data: "))["data"]["taskProgress"]
        assert event == "complete"


async def ready(ws: ClientConnection) -> None:
    await ws.send(json.dumps({"type": "connection_init"}))
    assert json.loads(await ws.recv()) == {"type": "connection_ack"}


async def by_socket(server: Server, task_id: str) -> AsyncIterator[dict[str, Any]]:
    async with connect(server.ws, subprotocols=["graphql-transport-ws"]) as ws:  # type: ignore[list-item]
        await ready(ws)
        payload = {"query": FOLLOW, "variables": {"id": task_id}}
        await ws.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
        async for frame in ws:
            message = json.loads(frame)
            if message["type"] == "complete":
                return
            yield message["payload"]["data"]["taskProgress"]


@pytest.mark.parametrize("transport", ["sse", "socket"])
async def test_a_stream_shows_a_task_to_its_end(
    server: Server, http: httpx.AsyncClient, transport: str
) -> None:
    """From a subscription in the middle of the run: versions only grow, the final one is last."""
    task_id = await start(http, server, steps=5, pause=0.15)
    events = by_sse(http, server, task_id) if transport == "sse" else by_socket(server, task_id)
    seen = [event async for event in events]
    versions = [(event["seq"], event["step"]) for event in seen]
    assert versions == sorted(set(versions))
    assert [event["status"] in FINAL for event in seen] == [False] * (len(seen) - 1) + [True]
    assert len(seen) >= 3
    assert (seen[-1]["status"], seen[-1]["progress"], seen[-1]["result"]) == (
        "completed",
        100,
        "top",
    )


@pytest.mark.parametrize("transport", ["sse", "socket"])
async def test_a_stream_of_a_finished_task_is_one_event(
    server: Server, http: httpx.AsyncClient, transport: str
) -> None:
    """Its final state, and the end."""
    task_id = await start(http, server, steps=1, pause=0)
    await finished(http, server, task_id)
    events = by_sse(http, server, task_id) if transport == "sse" else by_socket(server, task_id)
    assert [event["status"] async for event in events] == ["completed"]


@pytest.mark.parametrize("transport", ["sse", "socket"])
async def test_a_client_that_leaves_does_not_touch_the_task(
    server: Server, http: httpx.AsyncClient, transport: str
) -> None:
    """It runs on to its result."""
    task_id = await start(http, server, steps=4, pause=0.1)
    events: Any = (
        by_sse(http, server, task_id) if transport == "sse" else by_socket(server, task_id)
    )
    async with aclosing(events):
        async for _ in events:
            break
    assert (await finished(http, server, task_id))["result"] == "top"


BROKEN: list[tuple[str | bytes, int]] = [
    ("[]", 4400),
    ("1", 4400),
    ("null", 4400),
    ("{", 4400),
    ("", 4400),
    (b"\x00", 4400),
    ('{"type": "subscribe", "id": [], "payload": {"query": "{ shelves }"}}', 4400),
    ('{"type": "subscribe", "id": "1", "payload": {"query": "{ shelves }"}}', 4401),
    ('{"type": "' + "\N{SNOWMAN}" * 300 + '"}', 4400),
    ("[" * 50_000, 4400),
    ("x" * 300_000, 1009),
]


@pytest.mark.parametrize(("frame", "code"), BROKEN, ids=[repr(it[0][:30]) for it in BROKEN])
async def test_a_broken_client_is_closed_and_the_server_goes_on(
    server: Server, http: httpx.AsyncClient, frame: str | bytes, code: int
) -> None:
    """Without a credential nothing can be left hanging: the socket ends, others are served."""
    async with connect(server.ws, subprotocols=["graphql-transport-ws"]) as ws:  # type: ignore[list-item]
        await ws.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(ws.recv(), 5)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    assert await ask(http, server, "{ shelves }") == {"shelves": 3}


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/elsewhere/", {}), ("/graphql/", {"origin": "https://evil.example"})],
    ids=["path", "origin"],
)
async def test_an_unwelcome_handshake_is_a_403(
    server: Server, path: str, headers: dict[str, str]
) -> None:
    """It never becomes a socket."""
    url = server.ws.replace("/graphql/", path)
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers=headers):
            pass
    assert refused.value.response.status_code == 403


async def test_a_hundred_streams_on_one_socket(server: Server, http: httpx.AsyncClient) -> None:
    """Each is its own: one that ends does not silence its neighbours."""
    short = await start(http, server, steps=1, pause=0.2)
    long = await start(http, server, steps=4, pause=0.3)
    async with connect(server.ws, subprotocols=["graphql-transport-ws"]) as ws:  # type: ignore[list-item]
        await ready(ws)
        for number in range(100):
            variables = {"id": short if number % 2 else long}
            payload = {"query": FOLLOW, "variables": variables}
            await ws.send(json.dumps({"type": "subscribe", "id": str(number), "payload": payload}))
        last: dict[str, Any] = {}
        done: set[str] = set()
        while len(done) < 100:
            message = json.loads(await asyncio.wait_for(ws.recv(), 10))
            if message["type"] == "complete":
                done.add(message["id"])
            else:
                last[message["id"]] = message["payload"]["data"]["taskProgress"]["status"]
    assert set(last.values()) == {"completed"}
