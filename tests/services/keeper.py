"""Runs a server for as long as this process's standard input stays open, then removes its folder.

Whoever started it holds the other end of that pipe. So the server ends with the test run however
that ends: normally, by Ctrl-C, or killed before it could clean anything up.

    python keeper.py FOLDER SIGNAL USER COMMAND...
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

# Seconds that the server gets after the signal that asks it to end.
PATIENCE = 10


def as_user(name: str) -> dict[str, Any]:
    """Popen's arguments for running as this user; as oneself for an empty name."""
    if not name:
        return {}
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def keep(folder: Path, stop_signal: signal.Signals, user: str, command: list[str]) -> int:
    """Runs the command until it ends or the pipe does. Returns its exit code."""
    with (folder / "log").open("ab") as output:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            **as_user(user),
        )

    asked_to_end = threading.Event()

    def end_it_with_the_pipe() -> None:
        os.read(0, 1)
        asked_to_end.set()
        server.send_signal(stop_signal)
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()

    threading.Thread(target=end_it_with_the_pipe, daemon=True).start()
    code = server.wait()
    if asked_to_end.is_set():
        shutil.rmtree(folder, ignore_errors=True)  # else its log tells why it ended
    return code


if __name__ == "__main__":
    # A Ctrl-C in the terminal is for the test run; the pipe tells this process when it has ended.
    # Not SIG_IGN: the server would inherit that.
    signal.signal(signal.SIGINT, lambda *_: None)
    _, folder, signal_name, user, *command = sys.argv
    sys.exit(keep(Path(folder), signal.Signals[signal_name], user, command))
