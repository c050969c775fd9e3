"""Open files, connections, threads and memory of a server's process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.fleet import threads

# By this name PostgreSQL knows the server's connections; see `options`.
NAME = "the server"

_PAGE = os.sysconf("SC_PAGE_SIZE")


def options(database: Any, over: dict[str, Any]) -> dict[str, Any]:
    """`FAULTS_DATABASE` for a server whose connections are to be counted."""
    if database.kind != "postgres":
        return over
    return {**over, "OPTIONS": {"application_name": NAME, **over.get("OPTIONS", {})}}


class Used:
    """Looked up anew with each call. `database` has a `kind` and a `url`."""

    def __init__(self, pid: int, database: Any) -> None:
        self._pid = pid
        self._database = database

    def threads(self) -> int:
        return threads(self._pid)

    def memory(self) -> float:
        """Returns the resident memory, in MiB."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * _PAGE / 2**20

    def files(self) -> int:
        """File descriptors: sockets are some."""
        return len(list(Path(f"/proc/{self._pid}/fd").iterdir()))

    def connections(self) -> int:
        """To the database. On SQLite: files that are open; its closed connections may keep some."""
        if self._database.kind == "sqlite":
            name = self._database.url.removeprefix("sqlite:///")
            links = Path(f"/proc/{self._pid}/fd").iterdir()
            return sum(str(_target(link)) == name for link in links)
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = %s"
        url, _, name = self._database.url.rpartition("/")
        with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
            row = connection.execute(query, [name, NAME]).fetchone()
        assert row is not None
        return int(row[0])


def _target(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:  # closed meanwhile
        return None
