"""The server that npm's clients talk to: one for all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from tests.clients.settings import LIMIT, SECRET
from tests.services.node import node_problem
from tests.support.needs import unavailable
from tests.support.server import Server
from tests.support.shop_server import migrated, serving

ADA = "createsuperuser --noinput --username=ada --email=ada@example.com --verbosity=0"
APPLICATION = "tests.clients.asgi:application"


@pytest.fixture(scope="session")
def node() -> None:
    """Node.js with the packages of `tests/clients`."""
    if (problem := node_problem()) is not None:
        unavailable(problem)


@pytest.fixture(scope="session")
def server_env(tmp_path_factory: pytest.TempPathFactory, node: None) -> dict[str, str]:
    """The environment of a server whose database has one user, Ada."""
    return migrated(tmp_path_factory, "tests.clients.settings", ADA)


@pytest.fixture(scope="package")
def server(server_env: dict[str, str]) -> Iterator[Server]:
    with serving(server_env, APPLICATION) as it:
        yield it


def place_of(server: Server) -> dict[str, Any]:
    """Returns what a script needs to know of the server."""
    token = jwt.encode({"sub": "1", "exp": int(time.time()) + 3600}, SECRET, "HS256")
    return {"url": server.url, "ws": server.ws, "token": token, "user": "1", "limit": LIMIT}
