"""The server that npm's clients talk to: one for all of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.clients.constants import LIMIT, SECRET
from tests.clients.page_blocks import STATIC, write_site
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
def site(tmp_path_factory: pytest.TempPathFactory, node: None) -> Path:
    """The folder with the files of docs/graphql-clients.md."""
    return write_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our module task.js for Node.js, which takes a `.js` for ESM where a package.json says so."""
    folder = tmp_path_factory.mktemp("module")
    shutil.copytree(STATIC / "rail_async_tasks", folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder / "task.js"


@pytest.fixture(scope="session")
def server_env(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Iterator[dict[str, str]]:
    """The environment of a server whose database has one user, Ada."""
    place = {"CLIENTS_SITE": str(site)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIENTS_SITE", str(site))
        yield migrated(tmp_path_factory, "tests.clients.settings", ADA) | place


@pytest.fixture(scope="package")
def server(server_env: dict[str, str]) -> Iterator[Server]:
    with serving(server_env, APPLICATION) as it:
        yield it


def place_of(server: Server) -> dict[str, Any]:
    """Returns what a script needs to know of the server."""
    token = jwt.encode({"sub": "1", "exp": int(time.time()) + 3600}, SECRET, "HS256")
    return {"url": server.url, "ws": server.ws, "token": token, "user": "1", "limit": LIMIT}
