"""The quick start, pasted into an empty folder: its bar moves in a browser, under each server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.support.pages import ROOT, read
from tests.support.reader import Reader, interpreter
from tests.support.waiting import wait_for

pytestmark = pytest.mark.browser

SERVERS = (
    "uvicorn root.asgi:application",
    "daphne root.asgi:application",
    "python manage.py runserver",
)
# The status and the value of the bar; nulls before the task has an id.
STATE = """
    const element = document.querySelector("rail-task");
    const bar = element.shadowRoot?.querySelector("[role=progressbar]");
    return [element.getAttribute("status"), bar?.getAttribute("aria-valuenow")];
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has pasted everything, and started the server of the page."""
    folder = tmp_path_factory.mktemp("reader") / "project"
    folder.mkdir()
    with Reader(folder, interpreter()) as reader:
        reader.follow(read(ROOT / "docs" / "quick-start.md"))
        yield reader


def bar_moves(browser: WebDriver, url: str) -> None:
    """Presses the page's button; asserts that the bar is seen on its way, and at its end."""
    browser.get(url)
    browser.find_element(By.TAG_NAME, "button").click()
    seen: set[int] = set()

    def ended() -> bool:
        status, value = browser.execute_script(STATE)  # type: ignore[no-untyped-call]
        seen.add(int(value or 0))
        return bool(status == "completed")

    wait_for(ended, timeout=60)
    assert max(seen) == 100
    assert len(seen) > 3, f"the bar jumped: {seen}"


@pytest.mark.parametrize("command", SERVERS)
def test_the_bar_moves(reader: Reader, browser: WebDriver, command: str) -> None:
    """Under the server of the page, and under the two others that a newcomer may have."""
    if not command.startswith("uvicorn"):
        reader.stop_servers()
        reader.serve(command)
    bar_moves(browser, reader.url)
    assert not reader.servers[-1].alarms()
