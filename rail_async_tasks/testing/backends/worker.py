"""A worker process that the suite starts, stops and kills."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence


class WorkerProcess:
    """Runs a command in a process group of its own; keeps its output for failure messages."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Start it. `env` is laid over this process's environment."""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - what the suite's author wrote
            command,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> None:
        """Send SIGTERM to the process, as a supervisor does."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process and its children."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def wait(self, seconds: float) -> int:
        """Wait for its end; returns the exit code. Raises `subprocess.TimeoutExpired`."""
        return self._process.wait(seconds)

    def said(self) -> str:
        """Returns the end of its output."""
        self._output.seek(0)
        return self._output.read()[-6000:].decode(errors="replace")

    def stop(self, seconds: float) -> None:
        """End it: by SIGTERM, and by SIGKILL after that many seconds."""
        self.terminate()
        try:
            self.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()
            self._process.wait()
            self._output.close()
