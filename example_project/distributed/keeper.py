"""Runs a program for as long as its standard input stays open. It needs nothing but Python.

The supervisor holds the other end of that pipe. So the program ends with the demo however that
ends: by Ctrl-C, or killed before it could stop anything.

    python keeper.py LOG SIGNAL USER COMMAND...

SIGNAL asks the program to end; USER is empty for oneself. Its process id goes to standard output,
and once it has ended its exit code, which is negative for a signal.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# Seconds that the program gets after the signal.
PATIENCE = 10


def as_user(name: str) -> dict[str, Any]:
    """Popen's arguments for running as this user; as oneself for an empty name."""
    if not name:
        return {}
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def at_the_keepers_death(stop_signal: int) -> Callable[[], object] | None:
    """What a new process calls so that Linux sends it the signal when its keeper is killed."""
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):  # another system
        return None
    return lambda: prctl(1, stop_signal)  # PR_SET_PDEATHSIG


def keep(log: str, stop_signal: signal.Signals, user: str, command: list[str]) -> int:
    """Runs the command until it ends or the pipe does. Returns its exit code."""
    with open(log, "ab") as output:  # noqa: PTH123 (pathlib doubles the time that this takes)
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=at_the_keepers_death(stop_signal),  # noqa: PLW1509 (no thread yet)
            **as_user(user),
        )
    print(program.pid, flush=True)

    def end(*_: object) -> None:
        program.send_signal(stop_signal)

    def end_with_the_pipe() -> None:
        os.read(0, 1)
        end()
        try:
            program.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            program.kill()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=end_with_the_pipe, daemon=True).start()
    return program.wait()


if __name__ == "__main__":
    _, log, signal_name, user, *command = sys.argv
    code = keep(log, signal.Signals[signal_name], user, command)
    with suppress(BrokenPipeError):
        print(code, flush=True)
    os._exit(0)
