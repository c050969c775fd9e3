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


@contextmanager
def running_server(folders: pytest.TempPathFactory, *, loop: str = "auto") -> Iterator[Server]:
    """uvicorn on a free port and a database of its own; `loop` is its option."""
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.graphql.settings",
        "TEST_DATABASE": "sqlite",
        "TEST_DATABASE_URL": f"sqlite:///{folders.mktemp('database')}/db.sqlite3",
        "PYTHONPATH": str(ROOT),
    }
    migrate = [sys.executable, "-m", "django", "migrate", "--verbosity=0"]
    subprocess.run(migrate, env=os.environ | env, check=True)
    server = Server(free_port())
    uvicorn = [sys.executable, "-m", "uvicorn", "tests.asgi:application"]
    options = [f"--port={server.port}", f"--loop={loop}"]
    setting = [f"{name}={value}" for name, value in env.items()]
    kept = KeptServer(folders.mktemp("server"), ["env", *setting, *uvicorn, *options])
    kept.wait_until(server.answers)
    try:
        yield server
    finally:
        kept.stop()
