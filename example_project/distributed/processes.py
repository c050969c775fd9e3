"""The processes of the demo, each under its keeper, and what makes them end in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

KEEPER = Path(__file__).with_name("keeper.py")
ROOT = Path(__file__).resolve().parents[2]
LAST_LINES = 15


class Failed(Exception):
    """The demo cannot run; the message is for who started it."""


class Lifeline:
    """A pipe that nobody writes to: those at its end stop once nobody holds it any more.

    Those at the end hold the descriptors in `holds`. If that is another lifeline, those at the end
    of that one outlive them, also when nobody is left to see to it.
    """

    def __init__(self, *holds: int) -> None:
        self.end, self.held = os.pipe()
        self.holds = holds

    def let_go(self) -> None:
        """Those at the end stop, unless another process holds it."""
        os.close(self.held)
        os.close(self.end)


@dataclass(eq=False)
class Process:
    """A program that runs under a keeper, and may be started again.

    Args:
        name: how people call it.
        command: what is run, in the project's folder.
        log: the file that takes what it writes.
        lifeline: what makes it stop.
        env: what it gets besides the environment of this process.
        stop_signal: the name of the signal that asks it to end.
        user: whom it runs as; empty for oneself.
    """

    name: str
    command: Sequence[str]
    log: Path
    lifeline: Lifeline
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    user: str = ""
    pid: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    _keeper: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it. Raises `Failed` if there is no such program."""
        self.began = datetime.now(UTC)
        keeper = [sys.executable, "-S", "-E", str(KEEPER), str(self.log), self.stop_signal]
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [*keeper, self.user, *self.command],
                cwd=ROOT,
                env={**os.environ, **self.env},
                stdin=self.lifeline.end,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=self.lifeline.holds,
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor alone
            )
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline()
        if not said:
            raise Failed(f"{self.name} cannot be started. {self.last_words()}")
        self.pid = int(said)

    def ended(self) -> str | None:
        """How it has ended, in words; None while it runs. To be asked no more once it has ended."""
        if self._keeper is None or self._keeper.poll() is None:
            return None
        assert self._keeper.stdout is not None
        with self._keeper.stdout as output:
            said = output.read().strip()
        code = int(said) if said else self._keeper.returncode
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"has ended with exit code {code}"

    def join(self) -> None:
        """Wait until it has ended."""
        if self._keeper is not None:
            self._keeper.wait()

    def wait_until(self, answers: Callable[[], bool], seconds: float = 60) -> None:
        """Returns once `answers()` is true. Raises `Failed` if it ends before, or takes longer."""
        deadline = time.monotonic() + seconds
        while not answers():
            if (how := self.ended()) is not None:
                raise Failed(f"{self.name} {how}. {self.last_words()}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} does not answer. {self.last_words()}")
            time.sleep(0.03)

    def last_words(self) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return f"The end of {self.log}:\n\n" + "\n".join(f"    {line}" for line in lines)
