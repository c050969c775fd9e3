"""Attack: one anonymous client starts tasks until no other client can.

Every edge that starts tasks counts its caller's address; honest callers beside it are served.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient

from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution
from tests.support.api import Configure
from tests.support.sockets import Socket

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

START = "mutation { climb(steps: 600, pause: 1) { taskId } }"
RETRY = "mutation($id: ID!) { retryTask(id: $id) { taskId } }"
CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { id } }"
FLOOD, HONEST = "203.0.113.9", "198.51.100.7"
MOST = 4


@pytest.fixture
async def full(database: object, configure: Configure, anyio_backend: Any) -> AsyncIterator[None]:
    """One slot, which is taken; whatever starts next waits. At the end nothing is drained."""
    configure(
        max_concurrency=1,
        drain_seconds=0,
        cancel_grace_seconds=0,
        limits={"anonymous_pending_per_address": MOST},
        trusted_proxies=["10.0.0.0/8"],
    )
    assert await started(At("192.0.2.1")) is not None
    yield
    await host.astop()


class At(AsyncClient):
    """A client whose address the server reports as this one."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def _base_scope(self, **request: Any) -> Any:
        return {**super()._base_scope(**request), "client": (self.address, 1)}


async def send(client: AsyncClient, query: str, **options: Any) -> Any:
    body = {"query": query, "variables": options.pop("variables", {})}
    response = await client.post(
        "/graphql/", json.dumps(body), content_type="application/json", **options
    )
    return response.json()


async def started(client: AsyncClient, **options: Any) -> str | None:
    """The id of a task that was started; None where the start was refused as QUEUE_FULL."""
    return id_in(await send(client, START, **options), "climb")


def id_in(answer: Any, field: str) -> str | None:
    if answer["data"][field] is not None:
        return str(answer["data"][field]["taskId"])
    (error,) = answer["errors"]
    assert (error["extensions"]["code"], error["extensions"]["retryAfter"]) == ("QUEUE_FULL", 1)
    assert f'limits["anonymous_pending_per_address"] allows: {MOST}' in error["message"]
    return None


async def fill(address: str = FLOOD) -> list[str]:
    """Starts until the address is refused."""
    found = []
    for _ in range(MOST + 3):
        if (task_id := await started(At(address))) is not None:
            found.append(task_id)
    assert len(found) == MOST
    return found


async def test_others_are_served_while_one_address_floods(full: None) -> None:
    """An anonymous caller at another address, and a user at the same one."""
    await fill()
    rows = await TaskExecution.objects.acount()
    assert await started(At(FLOOD)) is None
    assert await TaskExecution.objects.acount() == rows
    assert await started(At(HONEST)) is not None
    client = At(FLOOD)
    await client.aforce_login(await User.objects.acreate(username="ada"))
    for _ in range(MOST + 3):
        assert await started(client) is not None


async def test_a_header_makes_no_other_address(full: None) -> None:
    """Of a client itself; what a trusted proxy forwards is counted by the client's address."""
    await fill()
    forged = {"headers": {"x-forwarded-for": HONEST}}
    assert await started(At(FLOOD), **forged) is None
    assert await started(At("10.0.0.1"), **forged) is not None
    by_proxy = {"headers": {"x-forwarded-for": f"{HONEST}, {FLOOD}"}}
    assert await started(At("10.0.0.1"), **by_proxy) is None


async def test_every_edge_counts(full: None) -> None:
    """A socket's mutations, and retries over GraphQL and REST."""
    first, *_ = await fill()
    assert "errors" not in await send(At(FLOOD), CANCEL, variables={"id": first})
    socket = Socket(scope={"client": (FLOOD, 1)})
    await socket.ready()
    await socket.subscribe(START)
    assert id_in((await socket.receive())["payload"], "climb") is None
    assert (await socket.receive())["type"] == "complete"
    await socket.subscribe(RETRY, id=first)
    assert id_in((await socket.receive())["payload"], "retryTask") is None
    await socket.leave()
    retried = await send(At(FLOOD), RETRY, variables={"id": first})
    assert id_in(retried, "retryTask") is None
    response = await At(FLOOD).post(f"/api/v1/tasks/{first}/retry/")
    assert (response.status_code, response.json()["error"]["code"]) == (429, "QUEUE_FULL")
    assert int(response["Retry-After"]) >= 1
    elsewhere = await At(HONEST).post(f"/api/v1/tasks/{first}/retry/")
    assert elsewhere.status_code == 201
