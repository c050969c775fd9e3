"""A schema per tenant, by django-tenants: a task runs in the schema of its tenant."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import psycopg
import pytest
from websockets.asyncio.client import ClientConnection, connect

from rail_async_tasks.models import TaskExecution
from tests.support.client import Client
from tests.support.server import ROOT, Server, running_server
from tests.support.server_kinds import uvicorn

pytest.importorskip("django_tenants", reason="django-tenants is not installed here.")
pytestmark = pytest.mark.postgres

TENANTS = ("north", "south")


class Tenants:
    """The database of the project, with a user who may log in to each tenant."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.env = {
            "DJANGO_SETTINGS_MODULE": "tests.projects.tenants.settings",
            "TEST_DATABASE": "postgres", "TEST_DATABASE_URL": url,
        }  # fmt: skip
        self.cookie = self.run("-m", "tests.projects.tenants.set_up").splitlines()[-1]

    def run(self, *arguments: str) -> str:
        env = {**os.environ, **self.env, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, *arguments], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def select(self, query: str) -> list[Any]:
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            return [row[0] for row in connection.execute(query).fetchall()]


@pytest.fixture(scope="module")
def tenants(postgres_server: Any) -> Tenants:
    return Tenants(postgres_server.create_database("tenants"))


@pytest.fixture(scope="module")
def server(tenants: Tenants) -> Iterator[Server]:
    kind = uvicorn("uvicorn", "asyncio", "tests.projects.tenants.asgi:application")
    with running_server(tenants.env, kind=kind, drain_seconds=1, max_workers=2) as it:
        yield it


class Tenant(Client):
    """A client of one tenant's domain."""

    def __init__(self, server: Server, cookie: str, name: str) -> None:
        super().__init__(server, cookie)
        self.host = f"{name}.localhost:{server.port}"
        self.http.headers["host"] = self.host

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientConnection]:
        """As any client's, but for the host."""
        async with connect(
            f"ws://{self.host}/graphql/",
            host="127.0.0.1",
            port=self.server.port,
            subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
            additional_headers=self.headers,
        ) as ws:
            await ws.send('{"type": "connection_init"}')
            assert "connection_ack" in str(await ws.recv())
            yield ws


@pytest.fixture
async def clients(tenants: Tenants, server: Server) -> AsyncIterator[dict[str, Client]]:
    made: dict[str, Client] = {name: Tenant(server, tenants.cookie, name) for name in TENANTS}
    yield made
    for client in made.values():
        await client.http.aclose()


async def test_bodies_run_in_the_schema_of_their_tenant(
    tenants: Tenants, clients: dict[str, Client]
) -> None:
    """`def` and `async def`, many at once in few threads; followed over WebSocket."""
    calls = [
        (name, await clients[name].start(f'addNoteSlowly(text: "{name}{number}", rounds: 5)'))
        for number in range(6)
        for name in TENANTS
    ]
    for name, task_id in calls:
        [*_, done] = await clients[name].everything(clients[name].by_socket(task_id))
        assert done["result"] == {"schemas": [name], "user": "ada"}, done["error"]
    for name in TENANTS:
        done = await clients[name].final(await clients[name].start(f'addNote(text: "{name}")'))
        assert done["result"]["schema"] == name
        others = {other for other in TENANTS if other != name}
        assert others.isdisjoint(note[:5] for note in done["result"]["notes"])
    for name in TENANTS:
        assert len(tenants.select(f"SELECT text FROM {name}.notes_note")) >= 31


async def test_a_tenant_sees_its_own_tasks(clients: dict[str, Client]) -> None:
    """The same user, in another tenant, finds nothing."""
    task_id = await clients["north"].start('addNote(text: "north")')
    await clients["north"].final(task_id)
    mine = "{ tasks(limit: 500) { id } }"
    seen = {name: {it["id"] for it in (await clients[name].ask(mine))["tasks"]} for name in TENANTS}
    assert task_id in seen["north"]
    assert seen["north"].isdisjoint(seen["south"])
    await clients["north"].task(task_id)
    code = await clients["south"].error_code("query($id: ID!) { task(id: $id) { id } }", id=task_id)
    assert code == "NOT_FOUND"


async def test_a_task_starts_after_the_transaction_of_its_tenant(
    clients: dict[str, Client],
) -> None:
    """`enqueue()` in `atomic()`: the row is in the public schema, what the task reads is not."""
    north = clients["north"]
    answer = await north.http.get(north.server.url.replace("/graphql/", "/start/"))
    done = await north.final(answer.json()["id"])
    assert "by the view" in done["result"]["notes"]
    assert "by the task" in done["result"]["notes"]


async def test_our_tables_are_in_the_public_schema_alone(tenants: Tenants) -> None:
    """Where each connection finds them."""
    table = TaskExecution._meta.db_table
    found = tenants.select(f"SELECT schemaname FROM pg_tables WHERE tablename = '{table}'")
    assert found == ["common"]


def test_the_checks_accept_it(tenants: Tenants) -> None:
    assert tenants.run(
        "-m", "django", "check", "--tag", "rail_async_tasks", "--database", "default"
    )


def test_the_page_shows_what_is_tested() -> None:
    """The recipe, word for word."""
    page = (ROOT / "docs/tenants-and-languages.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    tested = (ROOT / "tests/projects/tenants/tenancy.py").read_text()
    assert tested in blocks
