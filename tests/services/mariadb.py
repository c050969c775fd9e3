"""A real MariaDB on a free port: the system's; root installs it where it is missing."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pymysql

from devservers.keeper import as_user
from devservers.process import Process, free_port, temporary_folder

PASSWORD = "secret"
# Nothing here has to survive a crash of the machine; commits are as fast as they get. The clock is
# off UTC on purpose, and so are the defaults for text: a project's server may be set up like this.
OPTIONS = {
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-flush-method": "nosync",
    "innodb-buffer-pool-size": "128M",
    "innodb-log-file-size": "64M",
    "max-connections": "200",
    "default-time-zone": "+05:45",
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_general_ci",
    "performance-schema": "OFF",
}


class MariaServer:
    """Where a running server is, and the user `suite`, who may do anything there."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, database: str) -> str:
        return f"mysql://suite:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def connect(self) -> Any:
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="suite", password=PASSWORD, connect_timeout=60
        )

    def create_database(self, name: str) -> str:
        """Creates an empty database, in place of one of that name. Returns its URL."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
            cursor.execute(f"CREATE DATABASE `{name}`")
        return self.url(name)


def find_server() -> Path | None:
    """The server's program; where it is missing and this is root, the system's is installed."""
    found = _program()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "--no-install-recommends", "mariadb-server"]
        for command in (["apt-get", "update"], install):
            subprocess.run(command, env=environment, check=False, capture_output=True)
        found = _program()
    return found


def _program() -> Path | None:
    if shutil.which("mariadb-install-db") is None:
        return None
    path = os.environ.get("PATH", "")
    found = shutil.which("mariadbd", path=f"{path}:/usr/sbin:/usr/libexec")
    return None if found is None else Path(found)


def _ordinary_user() -> str:
    """The user to run as when this is root, as whom MariaDB refuses to run; else empty."""
    if os.geteuid() != 0:
        return ""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "mysql" if "mysql" in known else "nobody"


@contextmanager
def running_mariadb(program: Path) -> Iterator[MariaServer]:
    """Starts a server, and stops it at the end, also when the test run is killed."""
    user = _ordinary_user()
    with temporary_folder("mariadb") as folder:
        if user:
            folder.chmod(0o755)
            shutil.chown(folder, user)
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={folder / 'data'}",
             "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True, capture_output=True, cwd=folder, **as_user(user),
        )  # fmt: skip
        maria = MariaServer(free_port())
        server = Process(
            "MariaDB", _command(program, folder, maria.port), folder / "log",
            user=user, cwd=folder, folder=folder,
        )  # fmt: skip
        try:
            server.start()
            server.wait_until(lambda: _answers(maria))
            yield maria
        finally:
            server.stop()


def _command(program: Path, folder: Path, port: int) -> list[str]:
    # Run at each start, as the server itself: clients need no other account.
    (folder / "init.sql").write_text(
        f"CREATE USER IF NOT EXISTS 'suite'@'%' IDENTIFIED BY '{PASSWORD}';\n"
        "GRANT ALL PRIVILEGES ON *.* TO 'suite'@'%' WITH GRANT OPTION;\n"
    )
    options = OPTIONS | {
        "datadir": str(folder / "data"),
        "init-file": str(folder / "init.sql"),
        "bind-address": "127.0.0.1",
        "port": str(port),
        "socket": str(folder / "socket"),
        "pid-file": str(folder / "pid"),
        "tmpdir": str(folder),
    }
    return [str(program), "--no-defaults", *(f"--{name}={it}" for name, it in options.items())]


def _answers(server: MariaServer) -> bool:
    try:
        server.connect().close()
    except pymysql.err.OperationalError:
        return False
    return True
