"""A PostgreSQL that may be stopped and comes back on its port, and a SQLite file that is held.

The server runs in a loop of the shell's, under the suite's keeper: it ends with the test run. While
the file `down` is there it does not come back.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg

from tests.services.keeper import as_user
from tests.services.postgres import (
    OPTIONS,
    PostgresServer,
    _answers,
    _ordinary_user,
    _readable_copy,
)
from tests.services.process import KeptServer, free_port

# What the keeper is told to end ends the server first.
LOOP = """
trap 'kill -INT $server; wait $server; exit 0' INT TERM
down=$1; shift
while :; do
    while [ -e "$down" ]; do sleep 0.05; done
    "$@" & server=$!
    wait $server
done
"""


class RestartablePostgres(PostgresServer):
    """Where it is, and what may be done to it."""

    def __init__(self, url: str, data: Path, down: Path) -> None:
        super().__init__(url)
        self._data = data
        self._down = down

    def restart(self, how: signal.Signals) -> None:
        """Ends it, by SIGINT or as after a crash by SIGQUIT; it comes back at once."""
        self._end(how)
        self._until_it_answers()

    def be_gone(self, seconds: float) -> None:
        """Ends it, and has it come back after so long."""
        self._down.touch()
        self._end(signal.SIGINT)
        time.sleep(seconds)
        self._down.unlink()
        self._until_it_answers()

    def _end(self, how: signal.Signals) -> None:
        lock = self._data / "postmaster.pid"
        pid = int(lock.read_text().split()[0])
        os.kill(pid, how)
        deadline = time.monotonic() + 20
        with suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def _until_it_answers(self) -> None:
        deadline = time.monotonic() + 30
        while not _answers(self.url("postgres")):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@contextmanager
def restartable_postgres(binaries: Path) -> Iterator[RestartablePostgres]:
    """As `running_postgres`, but that it may be restarted; a commit is on disk when it says so."""
    folder = Path(tempfile.mkdtemp(prefix="rail-async-tasks-postgres-"))
    user = _ordinary_user()
    if user:
        folder.chmod(0o755)
        binaries = _readable_copy(binaries, folder)
        shutil.chown(folder, user)
    data, port, down = folder / "data", free_port(), folder / "down"
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"]
    try:
        subprocess.run(
            [*initdb, "-E", "UTF8", "--locale=C", "--no-sync"],
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
    kept = KeptServer(
        folder, ["sh", "-c", LOOP, "sh", str(down), *command], user=user, stop_signal="INT"
    )
    url = f"postgresql://postgres@127.0.0.1:{port}"
    try:
        kept.wait_until(lambda: _answers(f"{url}/postgres"))
        yield RestartablePostgres(url, data, down)
    finally:
        down.unlink(missing_ok=True)
        kept.stop()


def cut_at_commit(url: str, over: threading.Event) -> int:
    """Ends connections that write or commit, one every now and then, until it is over.

    Returns how many it has ended.
    """
    cut = 0
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
        " datname = current_database() AND pid <> pg_backend_pid() AND (query = 'COMMIT'"
        r" OR query ~ '^\s*(INSERT|WITH|UPDATE)\M.*rail_async_tasks_execution') LIMIT 1"
    )
    while not over.wait(0.2):
        with suppress(psycopg.Error), psycopg.connect(url, autocommit=True) as admin:
            while not over.wait(0.02):
                if ended := len(admin.execute(query).fetchall()):
                    cut += ended
                    break
    return cut


def hold_locked(path: str, seconds: float, pause: float, times: int) -> None:
    """Takes the write lock of a SQLite file so many times, for so long each."""
    for _ in range(times):
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            other.execute("ROLLBACK")
        time.sleep(pause)
