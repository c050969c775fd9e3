"""`make demo-distributed`: several processes, a page that shows who ran what, nothing left."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from tests.browser.demo import ROOT, Page
from tests.browser.distributed import DistributedDemo, gone, running_distributed
from tests.support.waiting import wait_for

AIRPORTS, TICKS = 3376, 100
NAMES = {"web", "worker 1", "worker 2", "PostgreSQL"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may get into."""
    with tempfile.TemporaryDirectory(prefix="rail-async-tasks-demo-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def private_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that only we may get into: if we are root, PostgreSQL's user may not."""
    yield tmp_path
    if (link := tmp_path / "postgres").is_symlink():
        shutil.rmtree(link.resolve())


def pid_of(row: dict[str, Any]) -> int:
    """The process that the page shows beside a task; 0 for none."""
    found = re.search(r"pid (\d+)", " ".join(row["places"]))
    return int(found[1]) if found else 0


@pytest.mark.browser
def test_both_workers_run_tasks_and_a_killed_one_is_replaced(browser: Chrome, folder: Path) -> None:
    """The page names the worker of each task, also after one was killed; Ctrl-C ends everything."""
    with running_distributed(folder, samples=False) as demo:
        page = Page(browser, demo.url)
        page.look()
        page.open()
        page.complaints()

        page.click("hundred-ticks")
        ticks = page.wait("the hundred", lambda: _done(page))
        shares = dict(place.split(" · ") for place in ticks["places"])
        assert set(shares) == {"worker 1", "worker 2"}
        assert sum(int(count) for count in shares.values()) == TICKS
        assert all(int(count) > 0 for count in shares.values())

        row_id, victim = _interrupted(page, demo)
        page.wait("its other worker", lambda: pid_of(page.row(row_id)) not in (0, victim))
        after = demo.pids()
        assert pid_of(page.row(row_id)) in (after["worker 1"], after["worker 2"])
        assert "was killed by SIGKILL" in demo.output
        assert victim not in after.values()
        page.screenshot("demo-distributed")
        # A user who may not see a task does not see where it ran.
        assert _ask(demo, f'{{ whereItRan(ids: ["{row_id}"]) {{ pid }} }}') == {"whereItRan": []}
        assert page.complaints() == []

        family = demo.family()
        assert set(after.values()) <= set(family)
        demo.stop(seconds=60)
        assert demo.process.returncode == 0
        assert gone(family, seconds=60), "processes are left"


def _interrupted(page: Page, demo: DistributedDemo) -> tuple[str, int]:
    """Kills the worker of a task, which then completes. Returns the task's id and that worker's.

    The task takes five seconds: on a busy machine it may be over before the page has shown where it
    runs, and another one is started.
    """
    for _ in range(10):
        before = demo.pids()
        row_id = page.start("import-airports", "import_airports")
        victim = page.wait("its worker", lambda: pid_of(page.row(row_id) or {"places": []}))  # noqa: B023 (called in this round)
        assert victim in (before["worker 1"], before["worker 2"])
        os.kill(victim, signal.SIGKILL)
        row = page.finish(row_id)
        assert row["status"] == "completed"
        if "attempt 2" in row["text"]:
            return row_id, victim
        wait_for(lambda: victim not in demo.pids().values())  # noqa: B023 (called in this round)
    raise AssertionError("Each task had ended before its worker was killed.")


def _done(page: Page) -> dict[str, Any] | None:
    """The row of the ticks, once all are done and all their processes known."""
    row = next((row for row in page.rows() if row["name"] == "tick"), None)
    if row is None or row["status"] != "completed":
        return None
    known = sum(int(place.rpartition(" ")[2]) for place in row["places"])
    return row if known == TICKS else None


@pytest.mark.long
def test_nothing_is_left_of_a_demo_that_was_killed(private_folder: Path) -> None:
    """SIGKILL of the command: the workers hand back and end by themselves, then the servers."""
    with running_distributed(private_folder) as demo:
        assert set(demo.pids()) > NAMES
        family = demo.family()
        demo.process.kill()
        assert gone(family, seconds=60), "processes are left"
    for worker in ("worker-1", "worker-2"):
        said = (private_folder / f"{worker}.log").read_text()
        assert said.startswith("Serving the queues high, default, low, bulk:")
        assert "Traceback" not in said
    assert "database system is shut down" in (private_folder / "postgres.log").read_text()


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone does that")
@pytest.mark.long  # tests/acceptance/test_crash.py shows what a server does
def test_tasks_go_on_after_everything_was_killed(private_folder: Path) -> None:
    """Command and keepers killed at once: nothing is left, and the next start has their tasks."""
    with running_distributed(private_folder) as demo:
        family = demo.family()
        demo.process.kill()
        for pid in demo.keepers():
            os.kill(pid, signal.SIGKILL)
        assert gone(family, seconds=60), "processes are left"
    with running_distributed(private_folder, samples=False) as demo:
        wait_for(
            lambda: _ask(demo, "{ stock { airports } }") == {"stock": {"airports": AIRPORTS}},
            "end of the import", every=0.1,
        )  # fmt: skip
        family = demo.family()
        demo.stop(seconds=60)
        assert gone(family, seconds=60), "processes are left"


def _ask(demo: DistributedDemo, query: str) -> Any:
    """Returns the server's answer to an anonymous client."""
    body, headers = json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{demo.url}graphql/", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


def test_what_cannot_be_started_is_named_with_its_last_words(folder: Path) -> None:
    """The demo ends with the reason, and what was started already ends with it."""
    program = folder / "bin" / "valkey-server"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo v=9.0 && exit\necho No luck.; exit 3\n"
    )
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "devservers.distributed"],
        cwd=ROOT,
        env={
            **os.environ,
            "DEMO_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "example_project.root.settings",
            "PATH": f"{program.parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "Valkey has ended with exit code 3." in done.stderr
    assert done.stderr.rstrip().endswith("No luck.")
    assert "Traceback" not in done.stderr
    (data,) = (folder / "postgres").glob("data-*")
    assert not (data / "postmaster.pid").exists()
