"""Headless Chromium, the system's own, driven through its own ChromeDriver."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

# Nothing but the page under test goes over the network: no updates, no sync, no look-ups.
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
    # Pages without their animations: sixty pictures a second, painted without a graphics card, are
    # a third of the browser's CPU.
    "--force-prefers-reduced-motion",
)

# For a script that calls back, such as a run of axe, on a machine that is busy with others.
SCRIPT_SECONDS = 110  # Selenium waits for the driver's answer for two minutes


def missing_programs() -> list[str]:
    """Returns the browser's two programs that are not installed."""
    return [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


@contextmanager
def running_browser(profile: Path) -> Iterator[Chrome]:
    """A browser with this empty folder as its profile; raises when it can't start."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # root has none
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(SCRIPT_SECONDS)
    try:
        yield driver
    finally:
        driver.quit()


def leave_page(browser: Chrome) -> None:
    """Leaves the page of the test before, and forgets what it has logged.

    Its server may be gone, which such a page notes in the console at each try to reach it.
    """
    browser.get("about:blank")
    browser.get_log("browser")
