"""A real server with the acceptance tests' app, and what it must not say."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services.process import KEEPER, ServerFailed, free_port
from tests.support.server_kinds import KINDS, Kind

ROOT = Path(__file__).parents[2]

# What a server says only when it has done something wrong.
ALARMS = ("Traceback", "never awaited", "never retrieved", "different loop", "was destroyed")


class Server:
    """One server. It ends with the test run at the latest; `terminate` ends it now.

    It is uvicorn on that `loop`, or of the `kind` that is given.
    """

    def __init__(
        self,
        env: dict[str, str],
        *,
        loop: str = "asyncio",
        kind: Kind | None = None,
        port: int | None = None,
        **task_settings: Any,
    ) -> None:
        self.kind = kind or KINDS["uvicorn" if loop == "asyncio" else "uvicorn-uvloop"]
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}/graphql/"
        self.ws = f"ws://127.0.0.1:{self.port}/graphql/"
        self._folder = Path(tempfile.mkdtemp(prefix="rail-async-tasks-acceptance-"))
        self._log = self._folder / "errors"
        self._watched = self._folder / "acceptance_watched.py"
        self._watched.touch()
        its_path = [env["PYTHONPATH"]] if "PYTHONPATH" in env else []
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.projects.acceptance.settings",
            **env,
            **self.kind.env,
            "ACCEPTANCE_TASK_SETTINGS": json.dumps(task_settings),
            "PYTHONPATH": ":".join([*its_path, str(ROOT), str(self._folder)]),
            "PYTHONWARNINGS": "default",
        }
        # The keeper removes its folder, with all that the server said, when it has ended it.
        kept = self._folder / "kept"
        kept.mkdir()
        self._keeper = subprocess.Popen(
            [sys.executable, str(KEEPER), str(kept), "SIGTERM", "",
             "env", *(f"{name}={value}" for name, value in env.items()),
             "sh", "-c", f'exec "$@" 2>"{self._log}"', "sh", *self.kind.argv(self.port)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def wait_until_it_answers(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not self._answers():
            if self._keeper.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"The server does not answer. It said: {self.said()[-4000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def said(self) -> str:
        """All of its standard error."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def alarms(self) -> list[str]:
        """The lines of its standard error that tell of something wrong, each with its context."""
        lines = self.said().splitlines()
        return [
            "\n".join(lines[max(number - 2, 0) : number + 40])
            for number, line in enumerate(lines)
            if any(alarm in line for alarm in ALARMS)
        ]

    @property
    def pid(self) -> int:
        """Of the server itself."""
        return self._children(self._keeper.pid)[0]

    def workers(self) -> list[int]:
        """The ids of its child processes."""
        return self._children(self.pid)

    @staticmethod
    def _children(pid: int) -> list[int]:
        return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def reload(self, seconds: float = 30) -> None:
        """Has a server that watches its files begin anew, and waits until it answers."""
        before, deadline = self.workers(), time.monotonic() + seconds
        while set(self.workers()) & set(before):
            assert time.monotonic() < deadline
            # Again and again: what has changed before its first look it does not see.
            os.utime(self._watched)
            time.sleep(0.1)
        self.wait_until_it_answers(deadline - time.monotonic())

    def terminate(self) -> None:
        """Sends SIGTERM, once, and does not wait."""
        if self._keeper.stdin is not None and not self._keeper.stdin.closed:
            self._keeper.stdin.close()

    @property
    def exit_code(self) -> int | None:
        """Of the process, once it has ended."""
        return self._keeper.poll()

    def wait(self, seconds: float) -> int:
        """Its exit code, or subprocess.TimeoutExpired."""
        return self._keeper.wait(seconds)

    def stop(self) -> None:
        """Ends it, unless it has ended, and forgets what it said."""
        self.terminate()
        self._keeper.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def running_server(
    env: dict[str, str],
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
        server.wait(15)
        alarms = server.alarms()
        assert not alarms, alarms[0]
    finally:
        server.stop()
