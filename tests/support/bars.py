"""`<rail-task>` of a page in a browser: it moves, and comes to its end."""

from __future__ import annotations

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.support.waiting import wait_for

# The status and the value of the bar; nulls before the task has an id.
_STATE = """
    const element = document.querySelector("rail-task");
    const bar = element.shadowRoot?.querySelector("[role=progressbar]");
    return [element.getAttribute("status"), bar?.getAttribute("aria-valuenow")];
"""


# Has the page keep the bar's value at each update: looks from here may come too seldom.
_KEEP = """
    window.seenOfTheBar = [];
    for (const name of ["rail-task-update", "rail-task-end"])
        document.addEventListener(name, event => {
            const bar = event.target.shadowRoot.querySelector("[role=progressbar]");
            window.seenOfTheBar.push(Number(bar.getAttribute("aria-valuenow")));
        });
"""


def bar_moves(browser: WebDriver, url: str) -> None:
    """Opens the page, presses its button, and sees the bar on its way and at its end."""
    browser.get(url)
    browser.execute_script(_KEEP)  # type: ignore[no-untyped-call]
    browser.find_element(By.TAG_NAME, "button").click()

    def ended() -> bool:
        return bool(browser.execute_script(_STATE)[0] == "completed")  # type: ignore[no-untyped-call]

    wait_for(ended, lambda: browser.execute_script(_STATE))
    seen = set(browser.execute_script("return window.seenOfTheBar"))  # type: ignore[no-untyped-call]
    assert max(seen) == 100
    assert len(seen) > 3, f"the bar jumped: {seen}"
