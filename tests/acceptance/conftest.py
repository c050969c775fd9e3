"""Databases and people for the acceptance tests, and one server for each combination."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client as DjangoClient

from tests.acceptance.client import Client
from tests.acceptance.server import Server, running_server
from tests.services.databases import default_database
from tests.settings import database as database_config

PEOPLE = ("ada", "bob")


# For what takes long and hardly differs: SQLite's turn is among the long tests.
mostly_on_postgres = pytest.mark.parametrize(
    "place",
    [
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("sqlite", marks=pytest.mark.long),
    ],
    indirect=True,
    scope="module",
)


class Place:
    """A migrated database that servers share, and that this process reads too."""

    def __init__(self, kind: str, url: str, cookies: dict[str, str]) -> None:
        self.kind = kind
        self.env = {"TEST_DATABASE": kind, "TEST_DATABASE_URL": url}
        self.cookies = cookies


def _logged_in(name: str) -> str:
    """The cookie of a new user's session."""
    client = DjangoClient()
    client.force_login(User.objects.create_user(name))
    return f"{django_settings.SESSION_COOKIE_NAME}={client.cookies['sessionid'].value}"


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def place(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: Any,
) -> Iterator[Place]:
    """One database per module; it is `default` in this process too."""
    kind: str = request.param
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('acceptance')}/db.sqlite3"
    else:
        url = request.getfixturevalue("postgres_server").create_database("acceptance")
    with django_db_blocker.unblock(), default_database(database_config(kind, url)):
        call_command("migrate", verbosity=0, interactive=False)
        yield Place(kind, url, {name: _logged_in(name) for name in PEOPLE})


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
    """Makes clients: somebody's by their name, an anonymous one by an empty name."""
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
