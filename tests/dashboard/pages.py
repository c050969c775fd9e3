"""The dashboard in a browser, as an operator sees it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import httpx
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.server import Server
from tests.support.waiting import TIMEOUT

T = TypeVar("T")

# Every row in one look, so that none changes between two questions.
_ROWS = """
return [...document.querySelectorAll("[data-task]")].map((row) => ({
  id: row.dataset.task, status: row.dataset.status, text: row.innerText,
  percent: Number(row.querySelector("[role=progressbar]").getAttribute("aria-valuenow")),
  actions: [...row.querySelectorAll("button[data-action]")].map((it) => it.dataset.action),
  focused: row.contains(document.activeElement),
}));
"""


class Dashboard:
    """A browser's window on the dashboard, of a user of this kind (see `site_urls`)."""

    def __init__(
        self, browser: Chrome, server: Server, kind: str = "operator", host: str = "127.0.0.1"
    ) -> None:
        self.browser, self.server = browser, server
        self.base = f"http://{host}:{server.port}"
        browser.get(f"{self.base}/as/{kind}/")
        browser.get_log("browser")

    def open(self, path: str = "/tasks/", *, live: bool = True) -> Dashboard:
        """Opens a page, and waits until it is live."""
        self.browser.get(self.base + path)
        if live:
            self.wait("the stream", lambda: self.connection() == "live")
        return self

    def connection(self) -> str:
        return str(self.run("return document.querySelector('#connection').dataset.state"))

    def rows(self) -> list[dict[str, Any]]:
        return list(self.run(_ROWS))

    def row(self, task_id: str) -> dict[str, Any]:
        return next(it for it in self.rows() if it["id"] == task_id)

    def find(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def press(self, *keys: str) -> None:
        """Sends keys to whatever has the focus."""
        ActionChains(self.browser).send_keys(*keys).perform()

    def click(self, task_id: str, action: str) -> None:
        """Clicks a button of a row, once there is one."""

        def clicked() -> bool:
            # The row may not have it yet, or be replaced meanwhile.
            with suppress(NoSuchElementException, StaleElementReferenceException):
                button = self.find(f'[data-task="{task_id}"] button[data-action={action}]')
                # Not under the head, which stays in view.
                self.run("arguments[0].scrollIntoView({ block: 'center' })", button)
                button.click()
                return True
            return False

        self.wait(f"the button {action}", clicked)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def wait(self, what: str, condition: Callable[[], T], seconds: float = TIMEOUT) -> T:
        waiting = WebDriverWait(self.browser, seconds, poll_frequency=0.03)
        return waiting.until(lambda _: condition(), f"waited {seconds} s for {what}")

    def look(self, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """The size and the colour scheme of the reader's screen."""
        size = {"width": width, "height": height, "mobile": width < 700, "deviceScaleFactor": 1}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def complaints(self) -> list[str]:
        """Returns the lines of the browser's console, which then forgets them."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


def start(server: Server, call: str) -> str:
    """Starts a task by its mutation; returns its id."""
    query = {"query": f"mutation {{ it: {call} {{ taskId }} }}"}
    answer = httpx.post(server.url, json=query, timeout=TIMEOUT)
    return str(answer.json()["data"]["it"]["taskId"])
