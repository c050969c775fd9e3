"""A server that `tests.support.forker` forks, in place of a start that imports everything anew.

For tests of what a server does. Those of how it is started take `devservers.process.Process`.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

from devservers.keeper import STOP_TIMEOUT
from devservers.process import ROOT, Lifeline, Process, ServerFailed
from tests.support.forker import Start


@cache
def _forker() -> socket.socket:
    """Return the socket of this process's forker, which ends with this process."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forker"],
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "default"},
            stdin=there,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @atexit.register
    def end() -> None:
        here.close()
        process.wait()

    return here


class _Fork:
    """What `Process` asks of its keeper."""

    def __init__(self, report: int) -> None:
        self.stdout = os.fdopen(report)

    def poll(self) -> int | None:
        """Return the exit code if the forker was killed and reports none; None while it runs."""
        return -signal.SIGKILL if self._has_reported(0) else None

    def wait(self, timeout: float | None = None) -> None:
        if not self._has_reported(timeout):
            raise subprocess.TimeoutExpired("a forked server", timeout or 0)

    def _has_reported(self, seconds: float | None) -> bool:
        return self.stdout.closed or bool(select.select([self.stdout], [], [], seconds)[0])


@dataclass(eq=False)
class ForkedProcess(Process):
    """Runs `python -m` with `command`, a module and its arguments.

    `log` takes its standard output; `errors` its standard error. `path` is its PYTHONPATH.
    """

    errors: Path = field(kw_only=True)
    path: Sequence[str] = field(kw_only=True)
    stop_seconds: float = STOP_TIMEOUT

    def start(self) -> None:
        """Start it. Raises ServerFailed if the forker has ended."""
        self.began, self._exit_code = datetime.now(UTC), None
        self.let_go()
        self._own_lifeline = lifeline = Lifeline()
        env: Mapping[str, str] = {**os.environ, **self.env}
        start = Start(
            list(self.command), dict(env), list(self.path), str(self.cwd), str(self.log),
            str(self.errors), self.stop_seconds,
        )  # fmt: skip
        report, reported = os.pipe()
        message = json.dumps(asdict(start)).encode()
        try:
            socket.send_fds(_forker(), [message], [lifeline.end, reported])
        finally:
            os.close(reported)
        fork = _Fork(report)
        self._keeper = cast("Any", fork)
        answer = fork.stdout.readline()
        if not answer:
            raise ServerFailed(f"{self.name} cannot be forked.")
        self.pid = int(answer)
