"""A web server and worker processes of one backend, on one database and one Redis."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.backends.kinds import Kind
from tests.services.process import KEEPER
from tests.support.server import ALARMS, ROOT, Server

LEASE = 3.0
# How a worker's command is told how many tasks it runs at once; Django-Q's settings say it.
SLOTS = {"arq": "--concurrency={}", "celery": "--concurrency={}", "dramatiq": "--threads={}"}


class Worker:
    """One worker process of a kind, under the keeper: it ends with the test run at the latest."""

    def __init__(self, kind: Kind, env: dict[str, str], *more: str) -> None:
        self.kind = kind
        self._folder = Path(tempfile.mkdtemp(prefix="rail-async-tasks-worker-"))
        self._log = self._folder / "errors"
        kept = self._folder / "kept"
        kept.mkdir()
        self._keeper = subprocess.Popen(
            [sys.executable, str(KEEPER), str(kept), "SIGTERM", "",
             "env", *(f"{name}={value}" for name, value in env.items()),
             "sh", "-c", f'exec "$@" >"{self._log}" 2>&1', "sh", *kind.argv, *more],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    @cached_property
    def pid(self) -> int:
        """Of the worker itself, as soon as its keeper has started it."""
        children = Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children")
        deadline = time.monotonic() + 10
        while not (pids := children.read_text().split()):
            assert time.monotonic() < deadline, "the worker did not start"
            time.sleep(0.01)
        return int(pids[0])

    def family(self) -> list[int]:
        """The process and all that it has started; none once it has ended."""
        if self.has_ended:
            return []
        found, more = [], [self.pid]
        while more:
            pid = more.pop()
            found.append(pid)
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            except OSError:
                continue
            more += [int(it) for it in children.split()]
        return found

    def kill(self) -> None:
        """SIGKILL, of the process and of all that it has started."""
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def terminate(self) -> None:
        """Sends SIGTERM, once, and does not wait."""
        if self._keeper.stdin is not None and not self._keeper.stdin.closed:
            self._keeper.stdin.close()

    def wait(self, seconds: float) -> float:
        """How long it took to end, in seconds; or subprocess.TimeoutExpired."""
        began = time.monotonic()
        self._keeper.wait(seconds)
        return time.monotonic() - began

    @property
    def has_ended(self) -> bool:
        return self._keeper.poll() is not None

    def said(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def alarms(self) -> list[str]:
        """The lines that tell of something wrong, each with what follows."""
        lines = self.said().splitlines()
        return [
            "\n".join(lines[max(number - 2, 0) : number + 40])
            for number, line in enumerate(lines)
            if any(alarm in line for alarm in ALARMS)
        ]

    def stop(self) -> None:
        self.terminate()
        self._keeper.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class World:
    """What a project of that kind has running."""

    def __init__(
        self, kind: Kind, env: dict[str, str], cookie: str, redis_url: str, stack: ExitStack,
        **task_settings: Any,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.cookie = cookie
        self.task_settings = {
            "backend": kind.name, "lease_seconds": LEASE, "drain_seconds": 1,
            "redis_url": redis_url, "bus": "memory",
            **kind.task_settings, **task_settings,
        }  # fmt: skip
        self._stack = stack
        self.env = {
            **env,
            "DJANGO_SETTINGS_MODULE": "tests.backends.settings",
            "BACKENDS_APPS": ",".join(kind.apps),
            "BACKENDS_REDIS": redis_url,
        }
        self.workers: list[Worker] = []
        self.servers: list[Server] = []

    def serve(self) -> Server:
        """Starts a web server, which answers."""
        server = Server(self.env, **self.task_settings)
        self._stack.callback(server.stop)
        self.servers.append(server)
        server.wait_until_it_answers()
        return server

    def work(self, *more: str, slots: int | None = None) -> Worker | None:
        """Starts a worker, of so many slots; None where the web process does the work."""
        if not self.kind.worker:
            return None
        env = {
            **self.env,
            **({} if slots is None else {"BACKENDS_Q_WORKERS": str(slots)}),
            "ACCEPTANCE_TASK_SETTINGS": json.dumps(self.task_settings),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "default",
        }
        if slots is not None and self.kind.name in SLOTS:
            more = (*more, SLOTS[self.kind.name].format(slots))
        worker = Worker(self.kind, env, *more)
        self._stack.callback(worker.stop)
        self.workers.append(worker)
        return worker

    def processes(self) -> dict[int, str]:
        """The command lines of its web servers and workers, and of all that these have started."""
        pids = [it.pid for it in self.servers]
        pids += [pid for worker in self.workers for pid in worker.family()]
        return {it: Path(f"/proc/{it}/cmdline").read_text().replace("\0", " ") for it in pids}

    def said(self) -> str:
        """All that its processes have said, for the message of a test that fails."""
        return "\n".join(
            f"--- {type(it).__name__}\n{it.said()[-20000:]}"
            for it in [*self.servers, *self.workers]
        )
