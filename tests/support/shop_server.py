"""A real server with the shop's schema, for tests that need one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.services.process import KeptServer, free_port

ROOT = Path(__file__).parents[2]


class Server:
    """Where it is."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/graphql/"
        self.ws = f"ws://127.0.0.1:{port}/graphql/"
        self.port = port

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


# One process for all commands: each start takes a second.
_MANAGE = """
import sys
from django.core.management import execute_from_command_line
for command in sys.argv[1:]:
    execute_from_command_line(["manage.py", *command.split()])
"""


def migrated(folders: pytest.TempPathFactory, settings: str, *commands: str) -> dict[str, str]:
    """The environment of a server with a new database, after more management commands."""
    env = {
        "DJANGO_SETTINGS_MODULE": settings,
        "TEST_DATABASE": "sqlite",
        "TEST_DATABASE_URL": f"sqlite:///{folders.mktemp('database')}/db.sqlite3",
        "PYTHONPATH": str(ROOT),
    }
    manage = [sys.executable, "-c", _MANAGE, "migrate --verbosity=0", *commands]
    subprocess.run(manage, env=os.environ | env, check=True)
    return env


@contextmanager
def serving(
    folders: pytest.TempPathFactory,
    env: dict[str, str],
    application: str = "tests.asgi:application",
    *,
    port: int | None = None,
    loop: str = "auto",
) -> Iterator[Server]:
    """uvicorn on a free port, or on this one; `loop` is its option."""
    server = Server(port or free_port())
    uvicorn = [sys.executable, "-m", "uvicorn", application]
    options = [f"--port={server.port}", f"--loop={loop}"]
    setting = [f"{name}={value}" for name, value in env.items()]
    kept = KeptServer(folders.mktemp("server"), ["env", *setting, *uvicorn, *options])
    kept.wait_until(server.answers)
    try:
        yield server
    finally:
        kept.stop()


@contextmanager
def running_server(folders: pytest.TempPathFactory, *, loop: str = "auto") -> Iterator[Server]:
    """A server of the shop with a database of its own."""
    with serving(folders, migrated(folders, "tests.projects.shop_settings"), loop=loop) as server:
        yield server
