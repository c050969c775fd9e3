"""The servers of samples. A database starts as a copy of an empty, migrated one; a Redis empty."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

import psycopg

from benchmarks.environment import ROOT, child_environment
from devservers.postgres import PostgresServer, running_postgres
from devservers.redis import running_redis


class Databases:
    """Made when they are first asked for, and gone with the `with` block.

    - `sqlite`: a file in WAL mode with `synchronous = NORMAL`, as `benchmarks.settings` opens it.
    - `postgres`: a server of our own with `synchronous_commit = off`, which promises the same: a
      crash of the machine may take the last commits, and nothing else.
    - `postgres-flushed`: the same server at its defaults, which wait for the disk at each commit.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._sqlite: Path | None = None
        self._postgres: PostgresServer | None = None
        self._copies = 0
        self._lock = threading.Lock()
        self.postgres_version: str | None = None

    def __enter__(self) -> Self:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-"))
        self._folder = Path(folder)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @contextmanager
    def fresh(self, kind: str | None) -> Iterator[dict[str, str]]:
        """An empty database for one process: the environment that makes it use that one."""
        if kind is None:
            yield {}
            return
        with self._lock:  # two sides of a quick case come at once
            self._copies += 1
            number = self._copies
            if kind == "sqlite":
                copy = _copied_file(self._sqlite or self._make_sqlite(), number)
            else:
                server = self._postgres or self._start_postgres()
                copy = self._copied_database(server, number, flushed=kind == "postgres-flushed")
        with copy as url:
            yield _environment(kind.partition("-")[0], url)

    @contextmanager
    def redis(self, wanted: bool) -> Iterator[dict[str, str]]:
        """An empty Redis or Valkey for one process: the environment that makes it use that one."""
        if not wanted:
            yield {}
            return
        with running_redis() as server:
            yield {"BENCHMARK_REDIS": server.url}

    def _make_sqlite(self) -> Path:
        assert self._folder is not None
        self._sqlite = self._folder / "migrated.sqlite3"
        _migrate("sqlite", f"sqlite:///{self._sqlite}")
        return self._sqlite

    @contextmanager
    def _copied_database(
        self, server: PostgresServer, number: int, *, flushed: bool
    ) -> Iterator[str]:
        name, wait = f"sample_{number}", "on" if flushed else "off"
        with self._lock:  # a template must not be in use, not even by another copy
            _execute(server, f"CREATE DATABASE {name} TEMPLATE migrated")
        _execute(server, f"ALTER DATABASE {name} SET synchronous_commit = {wait}")
        try:
            yield server.url(name)
        finally:
            _execute(server, f"DROP DATABASE {name} WITH (FORCE)", "CHECKPOINT")

    def _start_postgres(self) -> PostgresServer:
        # What it has committed is on disk, unlike on the tests' server.
        server = self._stack.enter_context(running_postgres(options={}))
        self._postgres = server
        with closing(psycopg.connect(server.url("postgres"))) as connection:
            self.postgres_version = str(connection.info.parameter_status("server_version"))
        _migrate("postgres", server.create_database("migrated"))
        return server


@contextmanager
def _copied_file(migrated: Path, number: int) -> Iterator[str]:
    path = migrated.with_name(f"{number}.sqlite3")
    shutil.copy(migrated, path)
    try:
        yield f"sqlite:///{path}"
    finally:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _execute(server: PostgresServer, *statements: str) -> None:
    with closing(psycopg.connect(server.url("postgres"), autocommit=True)) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _environment(kind: str, url: str) -> dict[str, str]:
    return {"TEST_DATABASE": kind, "TEST_DATABASE_URL": url}


def _migrate(kind: str, url: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity", "0", "--skip-checks"],
        cwd=ROOT,
        env=child_environment(_environment(kind, url)),
        check=True,
    )
