"""Databases and people for the acceptance tests, and one server for each combination."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.support.client import Client
from tests.support.places import Place, place
from tests.support.server import Server, running_server

__all__ = ["place"]


@pytest.fixture(scope="module", params=["uvloop", pytest.param("asyncio", marks=pytest.mark.long)])
def server_loop(request: pytest.FixtureRequest) -> str:
    """uvicorn's option `--loop`."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(place: Place, server_loop: str) -> Iterator[Server]:
    """The server that a module's tests share."""
    with running_server(place.env, loop=server_loop, drain_seconds=1) as it:
        yield it


@pytest.fixture
async def person(place: Place, server: Server) -> AsyncIterator[Callable[[str], Client]]:
    """Makes clients: a user's by name, an anonymous one by an empty name."""
    made: list[Client] = []

    def make(name: str = "") -> Client:
        client = Client(server, place.cookies[name] if name else "")
        made.append(client)
        return client

    yield make
    for client in made:
        await client.http.aclose()


@pytest.fixture
async def ada(person: Callable[[str], Client]) -> Client:
    return person("ada")


@pytest.fixture
async def bob(person: Callable[[str], Client]) -> Client:
    return person("bob")
