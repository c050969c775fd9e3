"""Bearer tokens against real servers: whose tasks they show, and what the server says of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import jwt
import pytest
from django.contrib.auth.models import User
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.client import FINAL, FOLLOW, FOLLOW_MINE, Client, plain_http, subscribe
from tests.support.places import Place, mostly_on_postgres
from tests.support.server import Server, running_server
from tests.support.tokens import HS, by_hand, claims, good
from tests.support.waiting import TIMEOUT

pytestmark = mostly_on_postgres

DENIED = {"message": "Task not found.", "code": "NOT_FOUND"}


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[Server]:
    """uvicorn with a secret shared with the signer of tokens."""
    with running_server(place.env, loop="asyncio", drain_seconds=1, jwt=HS) as it:
        yield it


class Bearer(Client):
    """A user by a token alone: in the header over HTTP, in the payload over WebSocket."""

    def __init__(self, server: Server, token: str) -> None:
        super().__init__(server, payload={"authorization": f"Bearer {token}"})
        self.token = token
        self.http.headers["authorization"] = f"Bearer {token}"


async def token_of(name: str, **changes: Any) -> str:
    user = await User.objects.aget(username=name)
    return good(str(user.pk), **changes)


async def refusal(server: Server, token: str, **headers: str) -> tuple[Any, Any, Any]:
    """Returns the answers of HTTP, SSE and WebSocket to a token."""
    answers: list[Any] = []
    async with plain_http(timeout=TIMEOUT, headers=headers) as http:
        for query, accept in (("{ tasks { id } }", "*/*"), (FOLLOW_MINE, "text/event-stream")):
            response = await http.post(
                server.url,
                json={"query": query},
                headers={"authorization": f"Bearer {token}", "accept": accept},
            )
            kept = {name: value for name, value in response.headers.items() if name != "date"}
            answers.append((response.status_code, kept, response.content))
    async with connect(
        server.ws,
        subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
        additional_headers=headers,
        open_timeout=TIMEOUT,
    ) as ws:
        payload = {"authorization": f"Bearer {token}"}
        await ws.send(json.dumps({"type": "connection_init", "payload": payload}))
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
    close = closed.value.rcvd
    assert close is not None
    answers.append((close.code, close.reason))
    return answers[0], answers[1], answers[2]


async def test_a_socket_by_token_sees_its_owners_tasks(server: Server, tmp_path: Path) -> None:
    """Its progress to its end, and in the stream of all that is theirs."""
    ada = Bearer(server, await token_of("ada"))
    task_id = await ada.start(f'climb(steps: 4, pause: 0, label: "by token", seen: "{tmp_path}")')
    seen = await ada.confirmed(ada.by_socket(task_id), tmp_path)
    assert seen[-1]["status"] == "completed"
    assert seen[-1]["ownerId"] == str((await User.objects.aget(username="ada")).pk)
    assert "running" in [event["status"] for event in seen]
    by_sse = await ada.everything(ada.by_sse(task_id))
    assert [event["result"] for event in by_sse] == [{"steps": 4, "label": "by token"}]
    async with ada.socket() as ws:
        await subscribe(ws, FOLLOW_MINE, {})
        folder = tmp_path / "second"
        folder.mkdir()
        # It does not end before the subscription has shown it.
        second = await ada.start(f'climb(steps: 1, pause: 0, seen: "{folder}")')
        async for frame in ws:
            event = json.loads(frame)["payload"]["data"]["myTaskUpdates"]
            assert event["id"] == second
            if event["progressMessage"]:
                (folder / event["progressMessage"]).touch()
            if event["status"] in FINAL:
                break
    await ada.http.aclose()


async def test_a_token_and_a_session_are_the_same_person(server: Server, place: Place) -> None:
    """A task that one of them starts is visible to the other."""
    by_token = Bearer(server, await token_of("ada"))
    by_session = Client(server, place.cookies["ada"])
    task_id = await by_session.start("climb(steps: 1, pause: 0)")
    assert (await by_token.final(task_id))["status"] == "completed"
    assert (await by_token.task(task_id)) == (await by_session.task(task_id))
    await by_token.http.aclose()
    await by_session.http.aclose()


async def test_other_users_do_not_see_them(server: Server) -> None:
    """Another token's user and an anonymous socket get NOT_FOUND."""
    ada = Bearer(server, await token_of("ada"))
    bob = Bearer(server, await token_of("bob"))
    task_id = await ada.start("linger")
    for other in (bob, Client(server)):
        async with other.socket() as ws:
            await subscribe(ws, FOLLOW, {"id": task_id})
            message = json.loads(await ws.recv())
            [error] = (
                message["payload"] if message["type"] == "error" else message["payload"]["errors"]
            )
            assert {"message": error["message"], **error["extensions"]} == DENIED
        await other.http.aclose()
    await ada.ask("mutation($id: ID!) { cancelTask(id: $id) { id } }", id=task_id)
    async with aclosing(ada.by_socket(task_id)) as events:
        assert [event["status"] async for event in events][-1] == "cancelled"
    await ada.http.aclose()


async def test_bad_tokens_are_refused_alike_and_not_logged(server: Server, place: Place) -> None:
    """Byte for byte over each transport, beside a good session too; the server stays silent."""
    ada = await User.objects.aget(username="ada")
    gone = await User.objects.acreate(username="gone", is_active=False)
    right = claims(str(ada.pk))
    tokens = [
        jwt.encode(right, None, "none", {"kid": "new"}),
        by_hand({"alg": "HS256"}, right, HS["keys"]["new"]),
        by_hand({"alg": "HS256", "kid": "other"}, right, HS["keys"]["new"]),
        by_hand({"alg": "HS256", "kid": "new"}, right, "a secret of another server, long enough"),
        await token_of("ada", exp=int(time.time()) - 100),
        await token_of("ada", exp=...),
        await token_of("ada", nbf=int(time.time()) + 1000),
        await token_of("ada", aud="others"),
        await token_of("ada", filler="x" * 20_000),
        (await token_of("ada"))[:-8],
        good(str(gone.pk)),
        good("1e3"),
        "garbage",
    ]
    answers = []
    for token in tokens:
        answers.append(await refusal(server, token))
        answers.append(await refusal(server, token, cookie=place.cookies["ada"]))
    assert [answer for answer in answers if answer != answers[0]] == []
    by_http, by_sse, by_socket = answers[0]
    assert (by_http[0], by_socket) == (401, (4403, "Forbidden"))
    assert by_http == by_sse
    assert json.loads(by_http[2]) == {
        "errors": [
            {
                "message": "Authentication is required.",
                "extensions": {"code": "UNAUTHENTICATED"},
            }
        ]
    }
    said = server.said()
    for token in (*tokens, await token_of("ada")):
        assert [part for part in token.split(".") if part and part in said] == []
