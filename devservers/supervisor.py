"""The demo in several processes: starts them, restarts what dies, and ends them in order."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path

import django
from django.core.management import call_command
from django.db import Error, connection

from devservers.demo import listen
from devservers.postgres import PostgresServer
from devservers.process import HOST, Lifeline, Process, ServerFailed
from devservers.redis import RedisServer

WORKERS = 2
DATABASE = "demo"
PAUSE = 1.0  # seconds between the death of a process and its next start
# A process that dies so soon after its start, so many times in a row, ends the demo.
QUICK, TRIES = timedelta(seconds=3), 5


class Supervisor:
    """The demo's processes, with their data and logs in this folder.

    Raises ServerFailed if another demo uses the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = _lock(folder)
        for log in folder.glob("*.log"):
            log.unlink()
        self._servers = Lifeline(self._lock)
        # The web server and the workers. The servers outlive them.
        self._clients = Lifeline(self._lock, self._servers.held)
        self._started: list[Process] = []
        self._unnoted: list[tuple[str, str, datetime]] = []

    def start(self) -> None:
        """Start all, and print what runs once all of it does. Raises ServerFailed."""
        with listen(os.environ.get("DEMO_PORT")) as listener:
            port = listener.getsockname()[1]
        say("Starting PostgreSQL and Redis …")
        word = _password(self.folder)
        postgres = PostgresServer(self.folder / "postgres", password=word, lifeline=self._servers)
        redis = RedisServer(
            self.folder / "redis",
            {"requirepass": word, "save": "3600 1"},
            lifeline=self._servers,
        )
        os.environ |= {
            "DEMO_DATABASE_URL": postgres.url(DATABASE),
            "DEMO_REDIS_URL": redis.url,
        }
        servers = [postgres.process, redis.process]
        self._started += servers
        postgres.start()
        redis.start()
        django.setup()
        postgres.wait_until_ready()
        redis.wait_until_ready()
        postgres.keep_database(DATABASE)
        call_command("migrate", verbosity=0, interactive=False)

        say("Starting the web server and the workers …")
        web = self._client("web", "devservers.demo")
        web.env = {"DEMO_PORT": str(port)}
        workers = [
            self._client(f"worker {number}", "example_project.manage", "task_worker")
            for number in range(1, WORKERS + 1)
        ]
        for process in (web, *workers):
            self._start(process)
        self._note()
        url = f"http://{HOST}:{port}"
        web.wait_until(partial(_answers, f"{url}/tasks/health/live"))
        for worker in workers:
            worker.wait_until(partial(_is_at_work, worker))
        connection.close()
        web.env["DEMO_SAMPLES"] = "0"  # should it be started again
        self._announce(url, [web, *workers, *servers], workers[0])

    def watch(self) -> None:
        """Restart processes that die, for ever. Raises ServerFailed if one dies at each start."""
        again: dict[str, float] = {}
        quick: Counter[str] = Counter()
        while True:
            for process in self._started:
                name, now = process.name, time.monotonic()
                if name in again:
                    if again[name] <= now:
                        del again[name]
                        self._restart(process)
                elif (how := process.ending()) is not None:
                    say(f"{name} (pid {process.pid}) {how}.")
                    soon = datetime.now(UTC) - process.began < QUICK
                    quick[name] = quick[name] + 1 if soon else 0
                    if quick[name] == TRIES:
                        raise ServerFailed(
                            f"{name} ends whenever it is started. {process.end_of_log()}"
                        )
                    again[name] = now + PAUSE
            self._note()
            time.sleep(0.05)

    def end(self) -> None:
        """End the web server and the workers; once they have ended, end the servers."""
        clients = [it for it in self._started if it.lifeline is self._clients]
        servers = [it for it in self._started if it.lifeline is self._servers]
        for lifeline, processes in ((self._clients, clients), (self._servers, servers)):
            if processes:
                say(f"Stopping {', '.join(it.name for it in processes)} …")
            lifeline.let_go()
            for process in processes:
                process.wait()
        say("Nothing runs any more.")

    def _client(self, name: str, *module: str) -> Process:
        log = self.folder / f"{name.replace(' ', '-')}.log"
        return Process(name, [sys.executable, "-m", *module], log, self._clients)

    def _start(self, process: Process) -> None:
        if process not in self._started:
            self._started.append(process)
        process.start()
        if process.lifeline is self._clients:
            self._unnoted.append((process.name, _place(process), process.began))

    def _restart(self, process: Process) -> None:
        self._start(process)
        say(f"{process.name} runs again as pid {process.pid}.")

    def _note(self) -> None:
        """Store the processes' names, for the page. While the database is away, try later."""
        from example_project.shop.models import Process as Row

        if not self._unnoted:
            return
        rows = [Row(name=it[0], place=it[1], started_at=it[2]) for it in self._unnoted]
        with suppress(Error):
            Row.objects.bulk_create(rows)
            self._unnoted.clear()
        connection.close()

    def _announce(self, url: str, processes: Sequence[Process], worker: Process) -> None:
        table = "\n".join(f"    {it.name:<12} pid {it.pid}" for it in processes)
        say(
            f"\n  The example shop is up, in several processes. Ctrl-C stops them all.\n\n"
            f"    The page         {url}/\n"
            f"    Dashboard        {url}/tasks/    (user admin, password admin)\n"
            f"    GraphQL console  {url}/graphql/\n"
            f"    Admin            {url}/admin/    (user admin, password admin)\n\n"
            f"{table}\n\n"
            f"    Data and logs    {self.folder}\n"
            f"    Try              kill -9 {worker.pid}    and see who goes on with its tasks\n"
        )


def say(text: str) -> None:
    """Print, if it can: the demo must end in order also when its terminal is gone."""
    with suppress(OSError):
        print(text, flush=True)


def _place(process: Process) -> str:
    """Return the place that the row of its runtime has."""
    return f"{socket.gethostname()} {process.pid}"


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return bool(answer.status == HTTPStatus.OK)
    return False


def _is_at_work(worker: Process) -> bool:
    """Return whether the worker's newest process has its row in the database."""
    from rail_async_tasks.models import TaskRuntime

    here = TaskRuntime.objects.filter(place=_place(worker), started_at__gte=worker.began)
    return here.exists()


def _password(folder: Path) -> str:
    """Return the password of both servers, made at the first start; no other user can read it."""
    file = folder / "password"
    if not file.exists():
        file.touch(0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text()


def _lock(folder: Path) -> int:
    """Return a descriptor that is locked while this process or a keeper holds it."""
    file = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ServerFailed(
            f"A demo runs in {folder}, or is about to end. Set DEMO_DIR to run another one."
        ) from error
    return file
