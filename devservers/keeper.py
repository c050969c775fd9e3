"""Runs a program for as long as its standard input stays open. It needs nothing but Python.

The process that started it holds the other end of that pipe. So the program ends with that process,
however that ends: normally, by Ctrl-C, or killed before it could stop anything.

    python keeper.py LOG SIGNAL USER FOLDER COMMAND...

LOG takes what the program prints. SIGNAL asks the program to end. USER runs it; empty for oneself.
FOLDER is removed when the program has ended because the pipe was closed; empty for none. It stays
when the program ends by itself: its log shows why. The keeper prints the program's process id, and
its exit code once it has ended, which is negative for a signal.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

# Seconds between the signal and SIGKILL.
STOP_TIMEOUT = 10


def as_user(name: str) -> dict[str, Any]:
    """Return Popen's arguments that run a program as this user; none for an empty name."""
    if not name:
        return {}
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def signal_at_parent_death(stop_signal: int) -> Callable[[], object] | None:
    """Return a hook for the new process: Linux signals it when its keeper is killed."""
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):  # another system
        return None
    return lambda: prctl(1, stop_signal)  # PR_SET_PDEATHSIG


def keep(log: str, stop_signal: signal.Signals, user: str, folder: str, command: list[str]) -> int:
    """Run the command until it ends or the pipe does. Return its exit code."""
    with open(log, "ab") as output:  # noqa: PTH123 (pathlib doubles the time that this takes)
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=signal_at_parent_death(stop_signal),  # noqa: PLW1509 (no thread yet)
            **as_user(user),
        )
    print(program.pid, flush=True)
    asked_to_end = threading.Event()

    def end(*_: object) -> None:
        program.send_signal(stop_signal)

    def end_with_the_pipe() -> None:
        os.read(0, 1)
        asked_to_end.set()
        end()
        try:
            program.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            program.kill()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=end_with_the_pipe, daemon=True).start()
    code = program.wait()
    if folder and asked_to_end.is_set():
        shutil.rmtree(folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    # A shell has background jobs ignore Ctrl-C, and programs inherit that. A handler, which they do
    # not inherit, gives them the default again.
    signal.signal(signal.SIGINT, lambda *_: None)
    _, log, signal_name, user, folder, *command = sys.argv
    code = keep(log, signal.Signals[signal_name], user, folder, command)
    with suppress(BrokenPipeError):
        print(code, flush=True)
    os._exit(0)
