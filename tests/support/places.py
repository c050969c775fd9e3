"""Databases that servers of a test share, with people in them. A conftest imports the fixture."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client as DjangoClient

from tests.settings import database as database_config
from tests.support.databases import default_database, migrated_copy

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


def logged_in(name: str) -> str:
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
        template = request.getfixturevalue("sqlite_template")
        path = shutil.copy(template, tmp_path_factory.mktemp("acceptance") / "db.sqlite3")
        url = f"sqlite:///{path}"
    else:
        url = migrated_copy(request.getfixturevalue("postgres_server"), "acceptance")
    with django_db_blocker.unblock(), default_database(database_config(kind, url)):
        yield Place(kind, url, {name: logged_in(name) for name in PEOPLE})
