"""`tasks watch`: polling, the bus, a terminal, Ctrl-C, and the exit codes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import connections
from django.test import override_settings

from devservers.process import ROOT
from devservers.redis import RedisServer
from rail_async_tasks.cli import watch
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution
from tests.cli.conftest import Said
from tests.support.databases import Database
from tests.support.forked import ForkedProcess
from tests.support.waiting import TIMEOUT, wait_for

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.turns("database")]

Tasks = Callable[..., Said]
Row = Callable[..., TaskExecution]

FINAL = {"completed": 0, "failed": 1, "cancelled": 3}


@pytest.mark.parametrize(("status", "code"), FINAL.items())
def test_the_exit_code_is_the_end(tasks: Tasks, row: Row, status: str, code: int) -> None:
    """Of a task that has ended already, too."""
    error = "boom" if status == "failed" else None
    said = tasks("watch", row(status, error=error, error_code="exception" if error else None).id)
    assert said.code == code
    assert said.out.splitlines()[-1].startswith(status)
    assert ("boom" in said.out) == (status == "failed")


def change(task: TaskExecution, **fields: object) -> None:
    """Changes the row as another process would."""
    row = TaskExecution.objects.get(id=task.id)
    seq = row.seq + ("status" in fields)
    fields = {"seq": seq, "step": row.step + 1, "updated_at": datetime.now(UTC), **fields}
    TaskExecution.objects.filter(id=task.id).update(**fields)


@contextmanager
def watching(tasks: Tasks, task: TaskExecution) -> Iterator[list[Said]]:
    """Watches in a thread while the block runs, and until the end."""
    said: list[Said] = []

    def run() -> None:
        try:
            said.append(tasks("watch", task.id))
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield said
    finally:
        thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_changes_are_followed_by_polling(
    tasks: Tasks, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line for each change that is seen, the end among them."""
    reads = threading.Semaphore(0)
    read = watch._read

    async def counted(task_id: object) -> object:
        found = await read(task_id)  # type: ignore[arg-type]
        reads.release()
        return found

    monkeypatch.setattr(watch, "_read", counted)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    task = row("running", progress=10)
    with watching(tasks, task) as said:
        assert reads.acquire(timeout=TIMEOUT)
        change(task, progress=60, progress_message="Halfway")
        while reads.acquire(blocking=False):
            pass
        for _ in range(2):
            assert reads.acquire(timeout=TIMEOUT)
        at = datetime.now(UTC)
        change(task, status="completed", progress=100, completed_at=at, result={"rows": 3})
    assert said[0].code == 0
    lines = [line.split(maxsplit=1)[1] for line in said[0].out.splitlines()]
    assert lines[0] == "running     10%"
    assert "running     60%  Halfway" in lines
    assert '{"rows": 3}' in lines[-1]
    assert host.hosted() is None


def test_a_deleted_task_ends_it(tasks: Tasks, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a code of its own: it neither failed nor completed, as far as is known."""
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    task = row("running")
    with watching(tasks, task) as said:
        TaskExecution.objects.filter(id=task.id).delete()
    assert said[0].code in (2, 4)
    assert "expired or was deleted" in said[0].error or "no task" in said[0].error


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_changes_are_followed_over_the_bus(
    tasks: Tasks,
    row: Row,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Where there is one: the poll of this test comes after an hour."""
    monkeypatch.setattr(watch, "POLL_WITH_BUS_SECONDS", 3600.0)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.05)
    task = row("pending")
    settings = {"redis_url": redis_server.url, "subscription_channel": f"cli-{task.id}"}
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": settings}):
        with watching(tasks, task) as said:
            bus = host.bus()
            wait_for(lambda: bus.connected and bus.watched(), "the watcher has joined")
            other = ForkedProcess(
                "tasks", ["tests.manage_cli", "cancel", str(task.id)], tmp_path / "output",
                env=_env(settings), cwd=ROOT, errors=tmp_path / "errors", path=[str(ROOT)],
            )  # fmt: skip
            other.start()
            assert other.wait(TIMEOUT) == 0, (tmp_path / "errors").read_text()
        assert said[0].code == 3
        assert said[0].out.splitlines()[-1].startswith("cancelled")


def _env(settings: dict[str, str]) -> dict[str, str]:
    import json

    name = connections["default"].settings_dict["NAME"]
    return {
        "TEST_DATABASE": "sqlite", "TEST_DATABASE_URL": f"sqlite:///{name}",
        "CLI_TASK_SETTINGS": json.dumps(settings),
    }  # fmt: skip


@contextmanager
def terminal(database: Database, *arguments: str, **env: str) -> Iterator[Callable[[str], str]]:
    """Runs the command on a pseudo-terminal of 80 columns; yields a reader until a text."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.manage_cli", *arguments],
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        env={**os.environ, **database.env, "TERM": "xterm", "COLUMNS": "80", **env},
    )  # fmt: skip
    os.close(follower)
    written = bytearray()

    def until(text: str) -> str:
        while text.encode() not in written:
            try:
                chunk = os.read(leader, 4096)
            except OSError:  # the command has ended
                chunk = b""
            assert chunk, written.decode(errors="replace")
            written.extend(chunk)
        return written.decode(errors="replace")

    until.process = process  # type: ignore[attr-defined]
    try:
        yield until
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def test_on_a_terminal_there_is_a_bar(database: Database, row: Row) -> None:
    """It is drawn again at each change; Ctrl-C ends the watch and not the task."""
    task = row("running", progress=30, progress_message="Fetching")
    with terminal(database, "watch", str(task.id)) as until:
        shown = until("Fetching")
        assert "\x1b[" in shown
        change(task, progress=70, progress_message="Writing")
        until("Writing")
        process = until.process  # type: ignore[attr-defined]
        process.send_signal(signal.SIGINT)
        shown = until("No longer watching")
        assert process.wait(TIMEOUT) == 130
        assert "Traceback" not in shown
    assert TaskExecution.objects.get(id=task.id).status == "running"


def test_a_list_fits_a_terminal_of_80_columns(database: Database, row: Row) -> None:
    """Whole ids, and no colour with NO_COLOR."""
    task = row("failed", name="reports.generate_the_monthly_report_of_all_shops", owner_id="x" * 60)
    with terminal(database, "list", NO_COLOR="1") as until:
        lines = until("reports.gen").split("\r\n")
    assert str(task.id) in "".join(lines)
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
