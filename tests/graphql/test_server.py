"""Against a real uvicorn: streams, broken clients, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.client import FINAL, FOLLOW, Client, subscribe
from tests.support.server import Server
from tests.support.shop_server import running_shop
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.turns("server")


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_template: Path,
) -> Iterator[Server]:
    """The shop under uvicorn, in each loop."""
    with running_shop(tmp_path_factory, loop=request.param, template=sqlite_template) as it:
        yield it


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = Client(server)
    yield client
    await client.http.aclose()


def climb(steps: int, pause: float) -> str:
    return f"climb(steps: {steps}, pause: {pause})"


@pytest.mark.parametrize("transport", ["sse", "socket"])
async def test_a_stream_shows_a_task_to_its_end(
    client: Client, transport: str, tmp_path: Path
) -> None:
    """From a subscription in the middle of the run: versions only grow, the final one is last."""
    task_id = await client.start(f'climb(steps: 3, seen: "{tmp_path}")')
    seen = await client.confirmed(client.stream(transport, task_id), tmp_path)
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
async def test_a_stream_of_a_finished_task_is_one_event(client: Client, transport: str) -> None:
    """Its final state, and the end."""
    task_id = await client.start(climb(1, 0))
    await client.final(task_id)
    seen = await client.everything(client.stream(transport, task_id))
    assert [event["status"] for event in seen] == ["completed"]


@pytest.mark.parametrize("transport", ["sse", "socket"])
async def test_a_client_that_leaves_does_not_touch_the_task(client: Client, transport: str) -> None:
    """It runs on to its result."""
    task_id = await client.start(climb(4, 0.1))
    async with aclosing(client.stream(transport, task_id)) as events:
        async for _ in events:
            break
    assert (await client.final(task_id))["result"] == "top"


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
    server: Server, client: Client, frame: str | bytes, code: int
) -> None:
    """Without a credential nothing can be left hanging: the socket ends, others are served."""
    async with connect(
        server.ws,
        subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
        open_timeout=TIMEOUT,
    ) as ws:
        await ws.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(ws.recv(), TIMEOUT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    assert await client.ask("{ shelves }") == {"shelves": 3}


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
        async with connect(url, additional_headers=headers, open_timeout=TIMEOUT):
            pass
    assert refused.value.response.status_code == 403


async def test_a_hundred_streams_on_one_socket(client: Client) -> None:
    """Each is its own: one that ends does not silence its neighbours."""
    short = await client.start(climb(1, 0.2))
    long = await client.start(climb(4, 0.3))
    async with client.socket() as ws:
        for number in range(100):
            await subscribe(ws, FOLLOW, {"id": short if number % 2 else long}, str(number))
        last: dict[str, Any] = {}
        done: set[str] = set()
        while len(done) < 100:
            message = json.loads(await asyncio.wait_for(ws.recv(), TIMEOUT))
            if message["type"] == "complete":
                done.add(message["id"])
            else:
                last[message["id"]] = message["payload"]["data"]["taskProgress"]["status"]
    assert set(last.values()) == {"completed"}
