"""A web server and worker processes of one backend, on one database and one Redis."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from devservers.process import ROOT
from tests.backends.kinds import Kind
from tests.support.server import LoggedProcess, Server, children

# So long that a busy machine breaks none: no process of these tests dies.
LEASE = 30.0
# The option of a worker's command for how many tasks run at once; Django-Q has a setting.
SLOTS = {"arq": "--concurrency={}", "celery": "--concurrency={}", "dramatiq": "--threads={}"}


class Worker(LoggedProcess):
    """One worker process of a kind, which ends with the test run at the latest."""

    def __init__(self, kind: Kind, env: dict[str, str], *more: str) -> None:
        self.kind = kind
        folder = Path(tempfile.mkdtemp(prefix="rail-async-tasks-worker-"))
        # The public suite starts one of arq's by its command.
        forked = kind.name == "arq"
        super().__init__(kind.name, [*kind.argv, *more], env, folder, both=True, forked=forked)

    def family(self) -> list[int]:
        """Return the process and all that it has started; none once it has ended."""
        if self.has_ended:
            return []
        found, more = [], [self.pid]
        while more:
            pid = more.pop()
            found.append(pid)
            more += children(pid)
        return found

    def kill(self) -> None:
        """Send SIGKILL to the process and to all that it has started."""
        for pid in self.family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def has_ended(self) -> bool:
        return self.exit_code is not None


class World:
    """A project's running processes."""

    def __init__(
        self, kind: Kind, env: dict[str, str], cookie: str, redis_url: str, stack: ExitStack,
        **task_settings: Any,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.cookie = cookie
        self.task_settings = {
            "backend": kind.name, "lease_seconds": LEASE, "drain_seconds": 1,
            "redis_url": redis_url, "bus": "memory",
            "limits": {"sockets_per_user": 500}, **kind.task_settings, **task_settings,
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
