"""The story of docs/one-night.md by commands alone: its very commands, against 500 failed tasks."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devservers.process import ROOT
from tests.support.server import Server
from tests.support.shop_server import migrated, serving
from tests.support.waiting import wait_for

pytestmark = pytest.mark.long  # half a minute of commands

TASKS = 500
# The most starts of one request.
STARTS = 20
# Seconds; each look is a command, and the machine may be busy.
TIMEOUT_SECONDS = 180.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service is up while there is this file."""
    return tmp_path_factory.mktemp("service") / "up"


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory, service: Path) -> dict[str, str]:
    settings = migrated(tmp_path_factory, "tests.projects.night.settings")
    return settings | {"NIGHT_SERVICE": str(service), "COLUMNS": "200"}


@pytest.fixture(scope="module")
def server(env: dict[str, str]) -> Iterator[Server]:
    with serving(env) as server:
        yield server


def page_commands() -> list[str]:
    """The commands of the page, in order."""
    page = (ROOT / "docs" / "one-night.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def tasks(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `manage.py tasks` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", "django", "tasks", *arguments],
        env=os.environ | env | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def charge(server: Server, first: int) -> None:
    """Starts some tasks in one request."""
    numbers = range(first, first + STARTS)
    fields = " ".join(f"i{n}: chargeCard(invoice: {n}) {{ taskId }}" for n in numbers)
    body = json.dumps({"query": f"mutation {{ {fields} }}"}).encode()
    request = urllib.request.Request(
        server.url, data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert "errors" not in json.load(answer)


def failed(env: dict[str, str]) -> Any:
    """The group of errors, once it has all of them."""
    found = json.loads(tasks(env, "errors", "--json").stdout)["results"]
    return found[0] if found and found[0]["failed"] == TASKS else None


def completed(env: dict[str, str]) -> bool:
    said = tasks(env, "list", "--status", "completed", "--limit", "1000", "--json").stdout
    return len(json.loads(said)["results"]) == TASKS


def test_by_commands_alone(env: dict[str, str], server: Server, service: Path) -> None:
    """Found grouped, paused, mended, retried with one confirmation, drained."""
    for first in range(0, TASKS, STARTS):
        charge(server, first)
    group = wait_for(lambda: failed(env), timeout=TIMEOUT_SECONDS, every=1.0)
    assert group["error"] == "PaymentServiceDown"
    assert group["place"].startswith("tests/projects/night/tasks.py:")
    assert group["place"].endswith(" in connect")
    commands = page_commands()
    assert len(commands) == 7
    said = []
    for number, command in enumerate(commands):
        program, script, *arguments = shlex.split(command)
        assert (program, script, arguments[0]) == ("python", "manage.py", "tasks")
        if arguments[1] == "resume":
            service.touch()  # it is mended
        done = tasks(env, *arguments[1:])
        # A retry without its confirmation does nothing, and says so by its exit code.
        assert done.returncode == (2 if number == 4 else 0), done.stderr + done.stdout
        said.append(done.stdout + done.stderr)
    assert "PaymentServiceDown" in said[0]
    assert "payments is paused" in said[1]
    assert re.search(r"^payments +paused", said[2], re.MULTILINE)
    assert "payments is resumed" in said[3]
    assert f"{TASKS} tasks would be retried" in said[4]
    assert f"{TASKS} tasks retried, 0 not." in said[5]
    queues = lambda: tasks(env, "queues").stdout  # noqa: E731
    wait_for(lambda: completed(env), queues, timeout=TIMEOUT_SECONDS, every=1.0)
    again = tasks(env, *shlex.split(commands[5])[3:])
    assert "0 tasks retried" in again.stdout
