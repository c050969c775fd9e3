"""Servers that tests start never outlive the test run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services.process import KeptServer, ServerFailed

ROOT = Path(__file__).parents[1]
STARTS_A_SERVER = """
import sys, time
from pathlib import Path
from tests.services.process import KeptServer

folder = Path(sys.argv[1])
server = KeptServer(folder, ["sh", "-c", "echo $$ > pid; exec sleep 600"])
server.wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "")
print((folder / "pid").read_text(), flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int, folder: Path) -> bool:
    """Whether the process and its folder go away within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not is_running(pid) and not folder.exists():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    folder.mkdir()
    return folder


def test_a_server_ends_with_a_run_that_was_killed(folder: Path) -> None:
    """SIGKILL lets nobody clean up, and still the server and its folder go."""
    command = [sys.executable, "-c", STARTS_A_SERVER, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert is_running(pid)
        run.kill()
    assert wait_until_gone(pid, folder)


def test_a_server_ends_when_it_is_stopped(folder: Path) -> None:
    """After `stop()` neither the process nor its folder is there."""
    server = KeptServer(folder, ["sh", "-c", "echo $$ > pid; exec sleep 600"])
    server.wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "")
    pid = int((folder / "pid").read_text())
    server.stop()
    assert not is_running(pid)
    assert not folder.exists()


def test_a_server_that_ends_by_itself_is_told_with_its_log(folder: Path) -> None:
    """Whoever waits for it sees what it said, instead of a time-out."""
    server = KeptServer(folder, ["sh", "-c", "echo no such thing >&2; sleep 0.2; exit 1"])
    with pytest.raises(ServerFailed, match="no such thing"):
        server.wait_until(lambda: False)
    assert not folder.exists()
