"""A process under a keeper: it ends with the process that started it, however that ends."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

HOST = "127.0.0.1"
KEEPER = Path(__file__).with_name("keeper.py")
ROOT = Path(__file__).resolve().parents[1]
LAST_LINES = 15
# Below the range from which the system takes ports for outgoing connections, as one could
# take a port before its server starts.
PORTS = range(20_000, 32_000)
_reservations: list[int] = []  # descriptors of locked files, until this process ends


class ServerFailed(RuntimeError):
    """A program is missing, has ended or does not answer; the message has the end of its log."""


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1, which no other call returns while this process lives.

    Raises ServerFailed where all are taken.
    """
    folder = Path(tempfile.gettempdir(), f"rail-async-tasks-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    for port in random.sample(PORTS, len(PORTS)):
        reservation = os.open(folder / str(port), os.O_WRONLY | os.O_CREAT)
        with suppress(OSError), socket.socket() as probe:
            fcntl.flock(reservation, fcntl.LOCK_EX | fcntl.LOCK_NB)
            probe.bind((HOST, port))
            _reservations.append(reservation)
            return port
        os.close(reservation)
    raise ServerFailed(f"No port from {PORTS[0]} to {PORTS[-1]} is free.")


def accepts(port: int) -> bool:
    """Return whether a process listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


class Lifeline:
    """A pipe without content. Processes at its end stop when no process holds its other end.

    Processes at the end also hold the descriptors in `holds`. If these belong to another lifeline,
    the processes at the end of that one outlive them, even if the starter is killed.
    """

    def __init__(self, *holds: int) -> None:
        self.end, self.held = os.pipe()
        self.holds = holds
        self._open = True

    def let_go(self) -> None:
        """Stop the processes at the end, unless another process holds the pipe."""
        if self._open:
            self._open = False
            os.close(self.held)
            os.close(self.end)


@dataclass(eq=False)
class Process:
    """A program under a keeper. `start` may be called again once it has ended.

    Args:
        name: how messages call it.
        command: what is run, in the folder `cwd`.
        log: the file that takes what it prints.
        lifeline: makes it stop, with others; without one, `stop` does.
        env: laid over the environment of this process.
        stop_signal: the name of the signal that asks it to end.
        user: the user that runs it; empty for oneself.
        folder: removed once the lifeline has ended it.
    """

    name: str
    command: Sequence[str]
    log: Path
    lifeline: Lifeline | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    user: str = ""
    cwd: Path = ROOT
    folder: Path | None = None
    pid: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    _keeper: subprocess.Popen[str] | None = None
    _exit_code: int | None = None
    _own_lifeline: Lifeline | None = None
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Start it. Raises ServerFailed if there is no such program."""
        self.began, self._exit_code = datetime.now(UTC), None
        lifeline = self.lifeline or Lifeline()
        if self.lifeline is None:
            self.let_go()
            self._own_lifeline = lifeline
        keeper = [sys.executable, "-S", "-E", str(KEEPER), str(self.log), self.stop_signal]
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [*keeper, self.user, str(self.folder or ""), *self.command],
                cwd=self.cwd,
                env={**os.environ, **self.env},
                stdin=lifeline.end,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=lifeline.holds,
                start_new_session=True,  # Ctrl-C in the terminal is for this process alone
            )
        assert self._keeper.stdout is not None
        answer = self._keeper.stdout.readline()
        if not answer:
            self.stop()
            raise ServerFailed(f"{self.name} cannot be started. {self.end_of_log()}")
        self.pid = int(answer)

    @property
    def exit_code(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs or before its start."""
        with self._reading:
            if self._exit_code is None and self._keeper is not None:
                code = self._keeper.poll()
                assert self._keeper.stdout is not None
                if code is not None:
                    with self._keeper.stdout as output:
                        answer = output.read().strip()
                    self._exit_code = int(answer) if answer else code
            return self._exit_code

    def ending(self) -> str | None:
        """Return how it has ended, as a phrase; None while it runs."""
        code = self.exit_code
        if code is None:
            return None
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"has ended with exit code {code}"

    def wait(self, seconds: float | None = None) -> int:
        """Return its exit code once it has ended. Raises subprocess.TimeoutExpired."""
        if self._keeper is None:
            return 0
        self._keeper.wait(seconds)
        code = self.exit_code
        assert code is not None
        return code

    def let_go(self) -> None:
        """Ask it to end by its own lifeline, and do not wait."""
        if self._own_lifeline is not None:
            self._own_lifeline.let_go()

    def stop(self) -> None:
        """End it, unless it has ended, and wait for that. It must have no other lifeline."""
        self.let_go()
        self.wait()

    def wait_until(self, answers: Callable[[], bool], seconds: float = 60) -> None:
        """Return once `answers()` is true. Raises ServerFailed if it ends before, or is late."""
        deadline = time.monotonic() + seconds
        while not answers():
            if (how := self.ending()) is not None:
                raise ServerFailed(f"{self.name} {how}. {self.end_of_log()}")
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self.name} does not answer within {seconds:g} s. {self.end_of_log()}"
                )
            time.sleep(0.02)

    def end_of_log(self) -> str:
        """Return the last lines of its log, with a heading."""
        if not self.log.exists():
            return ""
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return f"The end of {self.log}:\n\n" + "\n".join(f"    {line}" for line in lines)


@contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """Make a folder for a server; it is gone at the end, also after an error."""
    folder = Path(tempfile.mkdtemp(prefix=f"rail-async-tasks-{kind}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
