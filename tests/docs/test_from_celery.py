"""A project with Celery and celery-progress, moved by the page: its bars move at every step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from devservers.redis import RedisServer
from rail_async_tasks.models import TaskExecution
from tests.support.pages import REDIS, ROOT, Page, read
from tests.support.reader import Reader
from tests.support.reader_python import interpreter
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.long]

BEFORE = ROOT / "docs/from-celery-project.md"
PAGE = ROOT / "docs/from-celery.md"
VIEWS = ("import/", "invoices/", "close/")
# Whose bar the page shows, whether its task has succeeded, and the bar's value.
STATE = """
    const task = document.querySelector("rail-task");
    if (task) {
        const bar = task.shadowRoot?.querySelector("[role=progressbar]");
        const value = bar?.getAttribute("aria-valuenow");
        return ["ours", task.getAttribute("status") === "completed", Number(value ?? 0)];
    }
    const message = document.querySelector("#progress-bar-message").textContent;
    const width = document.querySelector("#progress-bar").style.width;
    return ["celery", message.startsWith("Success!"), parseFloat(width) || 0];
"""
# Whose bars the three views show after each start of the server.
STEPS = (
    ("ours", "celery", "celery"),
    ("ours", "ours", "ours"),
    ("ours", "ours", "ours"),
    ("ours", "ours", "ours"),
)


@pytest.fixture
def reader(tmp_path: Path, own_redis: RedisServer) -> Iterator[Reader]:
    """A reader with nothing but a Redis."""
    folder = tmp_path / "project"
    folder.mkdir()
    with Reader(folder, interpreter(), replace={REDIS: f"127.0.0.1:{own_redis.port}"}) as reader:
        yield reader


def bar_of(browser: WebDriver, url: str) -> str:
    """Opens a view, which starts a task; asserts that its bar moves to the end. Returns whose."""
    browser.get(url)
    seen: set[float] = set()

    def ended() -> bool:
        _, succeeded, value = browser.execute_script(STATE)  # type: ignore[no-untyped-call]
        seen.add(value)
        return bool(succeeded)

    wait_for(ended, timeout=180, what=lambda: f"{url}, {sorted(seen)}")
    assert max(seen) == 100, url
    assert len(seen) > 3, f"{url}: the bar jumped: {seen}"
    return str(browser.execute_script(STATE)[0])  # type: ignore[no-untyped-call]


def bars(browser: WebDriver, reader: Reader) -> tuple[str, ...]:
    """Starts each task in a page; returns whose bars these show."""
    return tuple(bar_of(browser, f"{reader.url}/{view}") for view in VIEWS)


def rows(reader: Reader, columns: str) -> list[Any]:
    """Returns columns of our rows, oldest first."""
    table = TaskExecution._meta.db_table
    with closing(sqlite3.connect(reader.folder / "db.sqlite3")) as database:
        query = f"SELECT {columns} FROM {table} ORDER BY created_at"
        return database.execute(query).fetchall()


def passes_on_what_celery_gets(reader: Reader) -> None:
    """Asserts that a start by the old name becomes a task of ours."""
    before = len(rows(reader, "id"))
    reader.run("celery -A root call shop.tasks.import_orders --args='[3]'", "the old name")
    wait_for(lambda: rows(reader, "name, status")[before:] == [("import_orders", "completed")])


def test_a_celery_project_moves_task_by_task(reader: Reader, browser: WebDriver) -> None:
    """It works with Celery, with both, in Celery's workers, and without Celery."""
    reader.follow(read(BEFORE))
    assert bars(browser, reader) == ("celery", "celery", "celery")

    page: Page = read(PAGE)
    steps = iter(STEPS)
    for block in page.blocks:
        if "rm root/celery.py" in block.text:
            reader.stop_servers()
        reader.do(block)
        if "uvicorn root" in block.text:
            before = len(rows(reader, "id"))
            step = next(steps)
            assert bars(browser, reader) == step
            assert len(rows(reader, "id")) == before + step.count("ours")
        if block.text.startswith("# shop/views.py\ndef send_invoices"):
            passes_on_what_celery_gets(reader)
        if '"backend": "celery"' in block.text:
            in_process = len(rows(reader, "id"))
    assert next(steps, None) is None
    by_celery = [dispatches > 0 for (dispatches,) in rows(reader, "dispatches")]
    assert by_celery == [False] * in_process + [True] * 3 + [False] * 3
    assert dict(rows(reader, "name, attempts"))["send_invoices"] == 2
    assert {status for (status,) in rows(reader, "status")} == {"completed"}
