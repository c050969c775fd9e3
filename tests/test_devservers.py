"""Processes of `devservers` never outlive the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devservers import process
from devservers.process import ROOT, Lifeline, Process, ServerFailed, free_port
from tests.support.waiting import TIMEOUT, wait_for

STARTS_A_SERVER = """
import sys, time
from pathlib import Path
from devservers.process import Process

folder = Path(sys.argv[1])
server = Process("a server", ["sleep", "600"], folder / "log", folder=folder)
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    folder.mkdir()
    return folder


def test_a_server_ends_with_a_run_that_was_killed(folder: Path) -> None:
    """After SIGKILL of the starter, which runs no clean-up, the server and its folder go."""
    command = [sys.executable, "-c", STARTS_A_SERVER, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert is_running(pid)
        run.kill()
    wait_for(lambda: not is_running(pid) and not folder.exists(), "end of the server")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone signals it.")
def test_a_server_ends_when_its_keeper_is_killed(folder: Path) -> None:
    """Its exit code is then the keeper's."""
    server = Process("a server", ["sleep", "600"], folder / "log")
    server.start()
    status = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    os.kill(int(status[1]), signal.SIGKILL)
    assert server.wait(TIMEOUT) == -signal.SIGKILL
    wait_for(lambda: not is_running(server.pid), "end of the server")
    server.stop()


def test_a_server_ends_when_it_is_stopped(folder: Path) -> None:
    """After `stop` neither the process nor its folder is there; `start` begins again."""
    server = Process("a server", ["sleep", "600"], folder / "log", folder=folder)
    server.start()
    pid = server.pid
    assert is_running(pid)
    assert server.exit_code is None
    server.stop()
    assert not is_running(pid)
    assert not folder.exists()
    assert server.exit_code == -signal.SIGTERM
    folder.mkdir()
    server.start()
    assert is_running(server.pid)
    server.stop()


def test_processes_of_a_lifeline_end_together(folder: Path) -> None:
    """Processes of another lifeline, which they hold, end after them."""
    inner = Lifeline()
    outer = Lifeline(inner.held)
    servers = [
        Process(name, ["sleep", "600"], folder / name, lifeline)
        for name, lifeline in (("database", inner), ("web", outer))
    ]
    for server in servers:
        server.start()
    inner.let_go()  # the keeper of the web process still holds it
    with pytest.raises(subprocess.TimeoutExpired):
        servers[0].wait(0.5)
    assert servers[1].exit_code is None
    outer.let_go()
    assert [server.wait(TIMEOUT) for server in servers] == [-signal.SIGTERM] * 2


def test_a_server_that_ends_by_itself_is_reported_with_its_log(folder: Path) -> None:
    """The error has the end of its log and comes at once, instead of a timeout."""
    command = ["sh", "-c", "echo no such thing >&2; sleep 0.2; exit 3"]
    server = Process("a server", command, folder / "log", folder=folder)
    server.start()
    with pytest.raises(ServerFailed, match=r"(?s)exit code 3.*no such thing"):
        server.wait_until(lambda: False)
    assert folder.exists()
    assert server.exit_code == 3
    server.stop()


def test_a_program_that_does_not_exist_is_reported(folder: Path) -> None:
    """The error names the server and has the reason."""
    server = Process("a server", ["no-such-program"], folder / "log")
    with pytest.raises(ServerFailed, match=r"(?s)a server cannot be started.*no-such-program"):
        server.start()


RESERVES_PORTS = """
import sys
from devservers import process

process.PORTS = range(int(sys.argv[1]), int(sys.argv[2]))
print(*(process.free_port() for _ in range(3)), flush=True)
sys.stdin.read()
"""


def test_two_processes_get_no_port_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of them listens yet: a look at the port alone would give both the same one."""
    first = free_port()
    ports = range(first + 1, first + 301)  # other test processes have some of them
    command = [sys.executable, "-c", RESERVES_PORTS, str(ports[0]), str(ports[-1] + 1)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        theirs = {int(port) for port in other.stdout.readline().split()}
        assert len(theirs) == 3
        monkeypatch.setattr(process, "PORTS", sorted(theirs))
        with pytest.raises(ServerFailed, match="No port from"):
            free_port()
        other.communicate("")
    assert free_port() in theirs


def test_a_server_hears_ctrl_c_also_in_a_background_job(folder: Path) -> None:
    """A shell starts background jobs with SIGINT ignored, which programs inherit."""
    server = Process("a server", ["sleep", "600"], folder / "log")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server.start()
    finally:
        signal.signal(signal.SIGINT, before)
    os.kill(server.pid, signal.SIGINT)
    assert server.wait(TIMEOUT) == -signal.SIGINT
    server.let_go()
