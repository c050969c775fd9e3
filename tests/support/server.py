"""A web server as a process of its own, and the lines that it must not log."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devservers.process import ROOT, Process, ServerFailed, accepts, free_port
from tests.support.forked import ForkedProcess
from tests.support.server_kinds import KINDS, Kind
from tests.support.waiting import TIMEOUT

# Seconds in which a server must answer, on a machine that is busy with others. One that has ended
# is not waited for.
START_TIMEOUT = 120.0

# Parts of lines that are logged only when something has gone wrong.
ALARMS = ("Traceback", "never awaited", "never retrieved", "different loop", "was destroyed")

# The line before a failed task's traceback, and those between the tracebacks of chained errors.
FAILED = re.compile(r"Task \S+ \(\S+\) (failed|will be retried .*):")
CHAINED = ("During handling of the above exception", "The above exception was the direct cause")


class LoggedProcess:
    """A program with a log, which ends with the test run at the latest.

    `stop` removes the folder, in which the log is. `both` has standard output in the log too.
    `forked` runs a module of Python without Python's start; see `tests.support.forked`.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        folder: Path,
        *,
        both: bool = False,
        forked: bool = False,
    ) -> None:
        self.name = name
        self._folder = folder
        self._log = folder / "errors"
        output = folder / "output"
        if forked:
            path = env["PYTHONPATH"].split(":")
            self._process: Process = ForkedProcess(
                name,
                argv[2:],
                self._log if both else output,
                env=env,
                cwd=folder,
                errors=self._log,
                path=path,
            )
        else:
            redirected = f'exec "$@" {"" if both else "2"}>"{self._log}"{" 2>&1" if both else ""}'
            command = ["sh", "-c", redirected, "sh", *argv]
            self._process = Process(name, command, output, env=env, cwd=folder)
        self._process.start()

    @property
    def pid(self) -> int:
        """Return the process id of the program itself."""
        return self._process.pid

    def wait_until(self, answers: Any, seconds: float = START_TIMEOUT) -> None:
        """Return once `answers()` is true. Raises ServerFailed with the log, when it is late."""
        try:
            self._process.wait_until(answers, seconds)
        except ServerFailed as error:
            raise ServerFailed(f"{error}\nIt logged: {self.said()[-4000:]}") from None

    def said(self) -> str:
        """Return its whole log."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def alarms(self) -> list[str]:
        """Return the lines of its log that show a mistake, each with its context.

        The traceback of a task that failed, as it was meant to, is none.
        """
        lines = self.said().splitlines()
        found, meant = [], False
        for number, line in enumerate(lines):
            if line.startswith("Traceback"):
                chained = any(it in lines[max(number - 2, 0)] for it in CHAINED)
                meant = FAILED.search(lines[max(number - 1, 0)]) is not None or (meant and chained)
                if meant:
                    continue
            if any(alarm in line for alarm in ALARMS):
                found.append("\n".join(lines[max(number - 2, 0) : number + 40]))
        return found

    def terminate(self) -> None:
        """Send SIGTERM, once, and do not wait."""
        self._process.let_go()

    @property
    def exit_code(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""
        return self._process.exit_code

    def wait(self, seconds: float) -> int:
        """Return its exit code once it has ended. Raises subprocess.TimeoutExpired."""
        return self._process.wait(seconds)

    def stop(self) -> None:
        """End it, unless it has ended, and remove its log."""
        self._process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def children(pid: int) -> list[int]:
    """Return the ids of the processes that this one has started; none once it has ended."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(it) for it in listed.split()]


class Server(LoggedProcess):
    """A web server: uvicorn on that `loop`, forked; or a `kind`, started by its own command."""

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        loop: str = "asyncio",
        kind: Kind | None = None,
        port: int | None = None,
        forked: bool = False,
        **task_settings: Any,
    ) -> None:
        self.kind = kind or KINDS["uvicorn" if loop == "asyncio" else "uvicorn-uvloop"]
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}/graphql/"
        self.ws = f"ws://127.0.0.1:{self.port}/graphql/"
        folder = Path(tempfile.mkdtemp(prefix="rail-async-tasks-server-"))
        self._watched = folder / "acceptance_watched.py"
        self._watched.touch()
        # PYTHONPATH names what Python imports as it starts.
        forked = (kind is None or forked) and "PYTHONPATH" not in env
        its_path = [env["PYTHONPATH"]] if "PYTHONPATH" in env else []
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.projects.acceptance.settings",
            **env,
            **self.kind.env,
            "ACCEPTANCE_TASK_SETTINGS": json.dumps(task_settings),
            "PYTHONPATH": ":".join([*its_path, str(ROOT), str(folder)]),
            "PYTHONWARNINGS": "default",
        }
        super().__init__(self.kind.name, self.kind.argv(self.port), env, folder, forked=forked)

    def wait_until_it_answers(self, seconds: float = START_TIMEOUT) -> None:
        """Return once it accepts connections. Raises ServerFailed."""
        self.wait_until(lambda: accepts(self.port), seconds)

    def workers(self) -> list[int]:
        """Return the ids of its child processes."""
        return children(self.pid)

    def reload(self, seconds: float = START_TIMEOUT) -> None:
        """Have a server that watches its files begin anew, and wait until it answers."""
        before, deadline = self.workers(), time.monotonic() + seconds
        while set(self.workers()) & set(before):
            assert time.monotonic() < deadline
            # Again and again: what has changed before its first look it does not see.
            os.utime(self._watched)
            time.sleep(0.1)
        self.wait_until_it_answers(deadline - time.monotonic())


@contextmanager
def running_server(
    env: Mapping[str, str],
    *,
    loop: str = "asyncio",
    kind: Kind | None = None,
    port: int | None = None,
    **task_settings: Any,
) -> Iterator[Server]:
    """A server that answers; at the end nothing may have gone wrong in it."""
    server = Server(env, loop=loop, kind=kind, port=port, **task_settings)
    try:
        server.wait_until_it_answers()
        yield server
        server.terminate()
        server.wait(TIMEOUT)
        alarms = server.alarms()
        assert not alarms, alarms[0]
    finally:
        server.stop()
