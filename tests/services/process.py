"""A server process that ends with the test run. See `keeper`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

KEEPER = Path(__file__).with_name("keeper.py")


class ServerFailed(RuntimeError):
    """The server did not answer in time, or ended; the message has the end of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class KeptServer:
    """One server under its keeper; `stop()` ends both and removes the folder."""

    def __init__(
        self, folder: Path, command: Sequence[str], *, user: str = "", stop_signal: str = "TERM"
    ) -> None:
        self._folder = folder
        self._log = folder / "log"
        self._keeper = subprocess.Popen(
            [sys.executable, str(KEEPER), str(folder), f"SIG{stop_signal}", user, *command],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_until(self, answers: Callable[[], bool], seconds: float = 30) -> None:
        """Returns once `answers()` is true. Raises ServerFailed."""
        deadline = time.monotonic() + seconds
        while not answers():
            if self._keeper.poll() is not None or time.monotonic() > deadline:
                log = self._log.read_text(errors="replace") if self._log.exists() else ""
                self.stop()
                raise ServerFailed(f"The server does not answer. It said: {log[-4000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends the server, if it still runs, and removes its folder."""
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
