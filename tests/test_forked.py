"""Forked servers are processes like those that a command starts, in their beginning and end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devservers.process import ROOT
from tests.support.forked import ForkedProcess
from tests.support.waiting import TIMEOUT, wait_for

SAYS = """
import atexit, json, os, signal, sys
from django.conf import settings

atexit.register(print, "at its end")
print(json.dumps([sys.argv[1:], sys.path[:2], os.getcwd(), __name__, os.environ.get("SAID")]))
print(json.dumps([os.getsid(0) == os.getpid(), "rail_async_tasks.models" in sys.modules,
                  settings.configured,
                  signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, sys.stdin.read()]))
print("wrong", file=sys.stderr)
sys.exit(3)
"""
STAYS = """
import os, pathlib, signal, sys, time

if sys.argv[1:] == ["deaf"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("pid").write_text(str(os.getpid()))
time.sleep(600)
"""


def forked(folder: Path, source: str, *arguments: str) -> ForkedProcess:
    """A process that runs this source as a module."""
    (folder / "program.py").write_text(source)
    return ForkedProcess(
        "program", ["program", *arguments], folder / "output", env={"SAID": "é"}, cwd=folder,
        errors=folder / "errors", path=[str(folder / "more")],
    )  # fmt: skip


def test_it_is_the_process_that_a_command_would_start(tmp_path: Path) -> None:
    """With its arguments, path, folder, environment and output; Python ends as it always does."""
    process = forked(tmp_path, SAYS, "--one", "two")
    process.start()
    assert process.wait(TIMEOUT) == process.exit_code == 3
    first, second, last = (tmp_path / "output").read_text().splitlines()
    path = [str(tmp_path), str(tmp_path / "more")]
    assert json.loads(first) == [["--one", "two"], path, str(tmp_path), "__main__", "é"]
    assert json.loads(second) == [True, False, False, True, ""]
    assert last == "at its end"
    assert (tmp_path / "errors").read_text() == "wrong\n"


def test_it_ends_by_a_signal_and_says_so(tmp_path: Path) -> None:
    """`stop` sends SIGTERM; while it runs, it has no exit code."""
    process = forked(tmp_path, STAYS)
    process.start()
    assert process.exit_code is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.stop()
    assert process.exit_code == -signal.SIGTERM
    assert not Path(f"/proc/{process.pid}").exists()


def test_its_kill_is_seen(tmp_path: Path) -> None:
    """A second start is another process."""
    process = forked(tmp_path, STAYS)
    process.start()
    first = process.pid
    os.kill(first, signal.SIGKILL)
    assert process.wait(TIMEOUT) == -signal.SIGKILL
    process.start()
    assert process.pid != first
    assert process.exit_code is None
    process.stop()


def test_it_ends_with_the_tests_that_are_killed(tmp_path: Path) -> None:
    """No server outlives a test run, nor does the forker."""
    program = (
        "import time\nfrom pathlib import Path\nfrom tests.test_forked import STAYS, forked\n"
        f"process = forked(Path({str(tmp_path)!r}), STAYS)\n"
        "process.start()\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as run:
        wait_for((tmp_path / "pid").exists)
        wait_for((tmp_path / "pid").read_text)
        pid = int((tmp_path / "pid").read_text())
        forker = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert b"forker" in Path(f"/proc/{forker}/cmdline").read_bytes()
        run.kill()
    for ended in (pid, forker):
        wait_for(lambda: not Path(f"/proc/{ended}").exists())  # noqa: B023 (called at once)


def test_one_that_hears_no_signal_is_killed(tmp_path: Path) -> None:
    """After the time that it has to end."""
    process = forked(tmp_path, STAYS, "deaf")
    process.stop_seconds = 0.3
    process.start()
    wait_for((tmp_path / "pid").exists)
    process.stop()
    assert process.exit_code == -signal.SIGKILL
