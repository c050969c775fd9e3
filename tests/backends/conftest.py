"""A world for each backend, shared by a module's tests; and what it said where one fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from devservers.redis import RedisServer, running_redis
from tests.backends.faults import world_of
from tests.backends.kinds import KINDS, Kind
from tests.backends.world import World
from tests.support.client import Client


@pytest.fixture(scope="module")
def broker_server(redis_program: Path) -> Iterator[RedisServer]:
    """A Redis of the module's own."""
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module")
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def world(
    kind: Kind, broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    """A web server and a worker of that kind, on a database of their own."""
    with world_of(kind, broker_server.url, postgres_server, django_db_blocker) as it:
        it.serve()
        it.work()
        yield it


@pytest.fixture
async def ada(world: World) -> AsyncIterator[Client]:
    """A client with a session at the world's first server."""
    client = Client(world.servers[0], world.cookie)
    yield client
    await client.http.aclose()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Any:
    outcome = yield
    result = outcome.get_result()
    if result.when == "call" and result.failed:
        for world in getattr(item, "funcargs", {}).values():
            if isinstance(world, World):
                result.sections.append(("its processes", world.said()))
