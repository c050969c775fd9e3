"""`<rail-task>` of a page in a browser: it moves, and comes to its end."""

from __future__ import annotations

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.support.waiting import wait_for

# Notes each value that the bar reports: a look from outside may come too late for one.
_NOTE = """
    if (!window.notedValues) {
        window.notedValues = [];
        addEventListener("rail-task-update", ({ detail }) => notedValues.push(detail.progress));
    }
    return notedValues;
"""
# The status and the value of the bar; nulls before the task has an id.
_STATE = """
    const element = document.querySelector("rail-task");
    const bar = element.shadowRoot?.querySelector("[role=progressbar]");
    return [element.getAttribute("status"), bar?.getAttribute("aria-valuenow")];
"""


# For `Reader.replace`: the page's task takes so long that a slow machine sees it on its way.
SLOWER = {"asyncio.sleep(0.1)": "asyncio.sleep(0.4)"}


def bar_moves(browser: WebDriver, url: str) -> None:
    """Opens the page, presses its button, and sees the bar on its way and at its end."""
    browser.get(url)
    browser.execute_script(_NOTE)  # type: ignore[no-untyped-call]
    browser.find_element(By.TAG_NAME, "button").click()
    seen: set[int] = set()

    def ended() -> bool:
        status, value = browser.execute_script(_STATE)  # type: ignore[no-untyped-call]
        noted = browser.execute_script(_NOTE)  # type: ignore[no-untyped-call]
        seen.update(int(it) for it in (*noted, value or 0))
        return bool(status == "completed")

    wait_for(ended, lambda: browser.execute_script(_STATE))
    assert max(seen) == 100
    assert len(seen) > 3, f"the bar jumped: {seen}"
