"""A PostgreSQL that may be stopped and comes back on its port, and a SQLite file that is held.

The server runs in a loop of the shell's, under a keeper: it ends with the test run. While the file
`down` is there it does not come back.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg

from devservers.postgres import SHARED, VOLATILE, PostgresServer
from devservers.postgres_programs import ordinary_user
from devservers.process import temporary_folder
from tests.support.waiting import TIMEOUT, wait_for

# The signal of the keeper ends the server first.
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
    """A server that ends when it is asked to, and comes back."""

    def __init__(self, folder: Path, down: Path) -> None:
        super().__init__(
            folder,
            options=SHARED | VOLATILE,
            wrap=lambda command: ["sh", "-c", LOOP, "sh", str(down), *command],
        )
        self._down = down

    def restart(self, how: signal.Signals) -> None:
        """End it, by SIGINT or as after a crash by SIGQUIT; it comes back at once."""
        self._end(how)
        self.wait_until_ready()

    def be_gone(self, until: Callable[[], bool]) -> None:
        """End it, and let it come back once that is true."""
        self._down.touch()
        self._end(signal.SIGINT)
        wait_for(until, timeout=2 * TIMEOUT)
        self._down.unlink()
        self.wait_until_ready()

    def _end(self, how: signal.Signals) -> None:
        pid = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, how)
        wait_for(lambda: not _lives(pid), "PostgreSQL to end")


def _lives(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@contextmanager
def restartable_postgres() -> Iterator[RestartablePostgres]:
    """Start a server like `running_postgres`, but one that may be restarted."""
    with temporary_folder("postgres") as folder:
        if ordinary_user():
            folder.chmod(0o755)
        down = folder / "down"
        server = RestartablePostgres(folder / "postgres", down)
        server.process.folder = folder
        server.start()
        try:
            server.wait_until_ready()
            yield server
        finally:
            down.unlink(missing_ok=True)
            server.process.stop()


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
