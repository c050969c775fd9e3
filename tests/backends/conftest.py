"""A world for each backend, shared by a module's tests; and what it said where one fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client as DjangoClient

from tests.acceptance.client import Client
from tests.backends.kinds import KINDS, Kind
from tests.backends.world import World
from tests.services.databases import default_database
from tests.services.redis import RedisServer, running_redis
from tests.settings import database as database_config


@pytest.fixture(scope="module")
def broker_server(redis_program: Path) -> Iterator[RedisServer]:
    """A Redis of the module's own."""
    with running_redis(redis_program) as server:
        yield server


@pytest.fixture(scope="module")
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def _logged_in(name: str) -> str:
    client = DjangoClient()
    client.force_login(User.objects.create_user(name))
    return f"{django_settings.SESSION_COOKIE_NAME}={client.cookies['sessionid'].value}"


@pytest.fixture(scope="module")
def world(
    kind: Kind, broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    """A web server and a worker of that kind, on a database of their own."""
    url = postgres_server.create_database("backends")
    env = {"TEST_DATABASE": "postgres", "TEST_DATABASE_URL": url}
    with (
        django_db_blocker.unblock(),
        default_database(database_config("postgres", url)),
        ExitStack() as stack,
    ):
        call_command("migrate", verbosity=0, interactive=False)
        it = World(kind, env, _logged_in("ada"), broker_server.url, stack)
        it.serve()
        it.work()
        yield it


@pytest.fixture
async def ada(world: World) -> AsyncIterator[Client]:
    """Somebody with a session at the world's first server."""
    client = Client(world.servers[0], world.cookie)
    yield client
    await client.http.aclose()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Any:
    outcome = yield
    result = outcome.get_result()
    world = getattr(item, "funcargs", {}).get("world")
    if result.when == "call" and result.failed and isinstance(world, World):
        result.sections.append(("its processes", world.said()))
