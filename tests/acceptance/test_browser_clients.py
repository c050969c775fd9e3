"""Clients from npm, on pages in Chromium: each sees its task to the end, and the end once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from tests.services.browser import leave_page
from tests.services.node import bundle, node_problem
from tests.support.needs import unavailable
from tests.support.places import Place
from tests.support.server import Server, running_server
from tests.support.waiting import TIMEOUT

pytestmark = [
    pytest.mark.browser,
    pytest.mark.parametrize("place", ["sqlite"], indirect=True, scope="module"),
]

WEB_SOCKET = ("urql-ws", "apollo", "graphql-ws")
EVENTS = ("urql", "urql-4", "graphql-sse", "event-source", "event-source-rest")
# These reconnect by themselves; the page watches anew for the others where a stream ends early.
RESUMING = (*WEB_SOCKET, "graphql-sse")
FINAL = ("completed", "failed", "cancelled")
DRAIN_SECONDS = 0.2

Report = dict[str, Any]
T = TypeVar("T")


@pytest.fixture(scope="module")
def env(place: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a server that serves the pages."""
    if (problem := node_problem()) is not None:
        unavailable(problem)
    made = bundle("pages/index.js", tmp_path_factory.mktemp("bundle"))
    return {**place.env, "CLIENTS_BUNDLE": str(made)}


@pytest.fixture(scope="module")
def server(env: dict[str, str]) -> Iterator[Server]:
    """The server that the tests below share, but for the one that restarts its own."""
    with running_server(env, loop="uvloop", drain_seconds=DRAIN_SECONDS) as it:
        yield it


class Pages:
    """One page with a panel for each of some clients."""

    def __init__(
        self, browser: Chrome, base: str, names: tuple[str, ...], cookie: str, seen: Path
    ) -> None:
        self.browser = browser
        self.names = names
        browser.get(f"{base}/clients/")  # a cookie is set on a page of its own site
        browser.execute_script("sessionStorage.clear()")
        name, _, value = cookie.partition("=")
        browser.add_cookie({"name": name, "value": value})
        self.url = f"{base}/clients/?clients={','.join(names)}&seen={seen}"
        self.open()

    def open(self) -> None:
        """Load the page, again where it is shown already."""
        self.browser.get(self.url)
        self.wait("the panels", lambda: self.run("return typeof report == 'function'"))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def report(self, name: str) -> Report:
        """Returns what a panel's client has seen: id, states, ends, watches, errors."""
        found: Report = self.run("return report(arguments[0])", name)
        return found

    def press(self, name: str, button: str) -> None:
        self.run(f"document.querySelector('[data-client={name}] [data-{button}]').click()")

    def wait(self, what: str, condition: Callable[[], T], seconds: float = TIMEOUT) -> T:
        waiting = WebDriverWait(self.browser, seconds, poll_frequency=0.03)
        try:
            return waiting.until(lambda _: condition())
        except Exception as error:
            said = [self.report(name) for name in self.names]
            raise AssertionError(f"waited {seconds} s for {what}: {said}") from error

    def until_status(self, name: str, status: str) -> None:
        def shown() -> bool:
            report = self.report(name)
            assert report["errors"] == [], report
            return any(state["status"] == status for state in report["states"])

        self.wait(f"{name} to see {status}", shown)

    def until_progress(self, name: str, percent: int) -> None:
        def shown() -> bool:
            return any(it["progress"] == percent for it in self.report(name)["states"])

        self.wait(f"{name} to see {percent} %", shown)

    def until_over(self, name: str) -> Report:
        """The report once the client's stream has ended after the task's final state."""

        def over() -> Report | None:
            report = self.report(name)
            states = report["states"]
            ended = report["ends"] and states and states[-1]["status"] in FINAL
            return report if ended else None

        return self.wait(f"{name} to see the end", over)


def finals(report: Report) -> list[str]:
    return [state["status"] for state in report["states"] if state["status"] in FINAL]


@pytest.fixture(params=[*WEB_SOCKET, *EVENTS])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pages(
    browser: Chrome, server: Server, place: Place, name: str, tmp_path: Path
) -> Iterator[Pages]:
    """The page of one client. It must not complain in the browser's console."""
    leave_page(browser)
    base = f"http://127.0.0.1:{server.port}"
    yield Pages(browser, base, (name,), place.cookies["ada"], tmp_path)
    assert browser.get_log("browser") == []
    browser.get("about:blank")


def test_progress_to_the_end(pages: Pages, name: str, tmp_path: Path) -> None:
    """A task that a client starts is seen at work, and its end once, after which nothing comes."""
    pages.press(name, "start=climb")
    for step, percent in (("step 1", 33), ("step 2", 66)):  # the task waits until it is shown
        pages.until_progress(name, percent)
        (tmp_path / step).touch()
    report = pages.until_over(name)
    assert finals(report) == ["completed"]
    percents = [state["progress"] for state in report["states"]]
    assert percents == sorted(percents)
    assert any(0 < percent < 100 for percent in percents), percents
    assert (report["ends"], report["watches"], report["errors"]) == (1, 1, [])


def test_cancel(pages: Pages, name: str) -> None:
    """A task that a client cancels is seen cancelled, once."""
    pages.press(name, "start=linger")
    pages.until_status(name, "running")
    pages.press(name, "cancel")
    report = pages.until_over(name)
    assert finals(report) == ["cancelled"]
    assert (report["ends"], report["errors"]) == (1, [])


def test_a_reload_in_the_middle(pages: Pages, name: str) -> None:
    """A page that is loaded again sees its task as it stands, and its end once."""
    pages.press(name, "start=linger")
    pages.until_status(name, "running")
    pages.open()
    pages.until_status(name, "running")
    pages.press(name, "cancel")
    report = pages.until_over(name)
    assert finals(report) == ["cancelled"]
    assert (report["watches"], report["errors"]) == (1, [])


@pytest.mark.parametrize("names", [WEB_SOCKET, EVENTS], ids=["web-socket", "events"])
def test_a_restart_in_the_middle(
    browser: Chrome, env: dict[str, str], place: Place, names: tuple[str, ...], tmp_path: Path
) -> None:
    """Across a server's restart each client sees its task go on, and its end once."""
    options = {"loop": "uvloop", "drain_seconds": DRAIN_SECONDS}
    with running_server(env, **options) as first:
        base = f"http://127.0.0.1:{first.port}"
        pages = Pages(browser, base, names, place.cookies["ada"], tmp_path)
        for name in names:
            pages.press(name, "start=survive")
        for name in names:
            pages.until_status(name, "running")
        first.terminate()
        first.wait(TIMEOUT)
    with running_server(env, port=first.port, **options):
        reports = {name: pages.until_over(name) for name in names}
        browser.get("about:blank")
    browser.get_log("browser")  # has each connection that was refused meanwhile
    seen = {name: (finals(it), it["errors"]) for name, it in reports.items()}
    assert seen == {name: (["completed"], []) for name in names}
    resumed = {name: it["watches"] for name, it in reports.items() if name in RESUMING}
    assert resumed == dict.fromkeys(resumed, 1)
