"""The demo as a process, and its page as a test sees it."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "test-artifacts"
FINAL = {"completed", "failed", "cancelled"}

T = TypeVar("T")

# Every row as the user sees it, in one look, so that no row changes between two questions.
_READ_ROWS = """
return [...document.querySelectorAll("#tasks > li")].map((row) => {
  const bar = row.querySelector("[role=progressbar]");
  return {
    id: row.dataset.id, name: row.dataset.name, status: row.dataset.status,
    percent: Number(bar.getAttribute("aria-valuenow")), text: row.innerText,
    cells: [...row.querySelectorAll(".cells i")].map((cell) => cell.dataset.status),
    places: [...row.querySelectorAll(".place")].map((place) => place.innerText),
  };
});
"""


class Demo:
    """`python -m devservers.demo` with a folder of its own. Times are `time.monotonic()`."""

    MODULE = "devservers.demo"

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        samples: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.output = ""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.MODULE],
            cwd=ROOT,
            env={
                **_clean_environment(),
                "DEMO_DIR": str(folder),
                "DEMO_PORT": str(port),
                "DEMO_SAMPLES": str(int(samples)),
                **(env or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self._wait_for_url()

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    def rows(self, sql: str) -> list[Any]:
        """Returns the database's rows; for statements that change something too."""
        with closing(sqlite3.connect(self.folder / "demo.sqlite3", timeout=60)) as connection:
            rows = connection.execute(sql).fetchall()
            connection.commit()
            return rows

    def files(self, folder: str) -> list[Path]:
        """Returns the files that tasks have written there."""
        path = self.folder / "media" / folder
        return sorted(path.iterdir()) if path.is_dir() else []

    def stop(self, seconds: float) -> float:
        """SIGTERM; gives back how long the process took to end. Raises `TimeoutExpired`."""
        asked = time.monotonic()
        self.process.terminate()
        self.process.wait(seconds)
        return time.monotonic() - asked

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def _wait_for_url(self, seconds: float = 180) -> str:
        while time.monotonic() < self.started_at + seconds:
            if found := re.search(r"The page +(http://\S+)", self.output):
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"The demo does not say where its page is:\n{self.output}")


def _clean_environment() -> dict[str, str]:
    """Returns the environment without the suite's own settings, like a user's terminal."""
    ours = ("DJANGO_", "DEMO_", "TEST_DATABASE", "PYTEST")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


@contextmanager
def running_demo(folder: Path, **options: Any) -> Iterator[Demo]:
    """A demo that is ended in any case."""
    demo = Demo(folder, **options)
    try:
        yield demo
    finally:
        demo.kill()


class Page:
    """The page in a browser."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        self.url = url

    def open(self) -> Page:
        """Load it, and wait for its stream and for what was there before."""
        self.browser.get(self.url)
        self.wait("the stream to be live", self.is_live)
        busy = "return document.querySelector('#board').getAttribute('aria-busy')"
        self.wait("the history", lambda: self.run(busy) == "false")
        return self

    def wait(self, what: str, condition: Callable[[], T], seconds: float = 60) -> T:
        """Returns the condition's value once it is true."""
        waiting = WebDriverWait(self.browser, seconds, poll_frequency=0.03)
        return waiting.until(lambda _: condition(), f"waited {seconds} s for {what}")

    def is_live(self) -> bool:
        return self.text("#connection") == "Live"

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def click(self, key: str) -> None:
        self.browser.find_element("css selector", f'[data-run="{key}"]').click()

    def rows(self) -> list[dict[str, Any]]:
        """The rows as dicts: id, name, status, percent, text, cells, places."""
        return list(self.run(_READ_ROWS))

    def row(self, task_id: str) -> dict[str, Any] | None:
        return next((row for row in self.rows() if row["id"] == task_id), None)

    def start(self, key: str, name: str) -> str:
        """Click a button; gives back the id of the row that appears for it."""
        before = {row["id"] for row in self.rows()}
        self.click(key)

        def new() -> Any:
            return next(
                (r for r in self.rows() if r["name"] == name and r["id"] not in before), None
            )

        return str(self.wait(f"a row of {name}", new)["id"])

    def finish(self, task_id: str, seconds: float = 60) -> dict[str, Any]:
        """The row once its task is over."""

        def over() -> Any:
            row = self.row(task_id)
            return row if row and row["status"] in FINAL else None

        return self.wait("the task to end", over, seconds)

    def press(self, task_id: str, label: str) -> None:
        """Click the button of a row, and make sure that it is the one that is meant."""
        button = self.browser.find_element("css selector", f'li[data-id="{task_id}"] button')
        assert button.text == label
        button.click()

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def look(
        self, *, width: int = 1280, height: int = 800, dark: bool = False, scale: float = 1
    ) -> None:
        """The size and the colour scheme of the reader's screen, and its dots per pixel."""
        size = {"width": width, "height": height, "mobile": width < 700}
        self.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**size, "deviceScaleFactor": scale}
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def screenshot(self, name: str) -> Path:
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        assert self.browser.save_screenshot(str(path))
        return path

    def complaints(self) -> list[str]:
        """Returns the lines of the browser's console, which then forgets them."""
        return [entry["message"] for entry in self.browser.get_log("browser")]
