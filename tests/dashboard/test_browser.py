"""The list in a browser: live rows, actions, keys, the filter, and no stream."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from rail_async_tasks.dashboard.assets import HTMX, has
from tests.dashboard.pages import Dashboard, start
from tests.services.node import CLIENTS, node_problem
from tests.support.needs import unavailable
from tests.support.server import Server
from tests.support.shop_server import migrated, serving
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.browser

# Moves until a test cancels it, which must not come too late.
CLIMB = "wander(pause: 0.2)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not has(HTMX):
        unavailable("No htmx: run scripts/htmx_library.py, which needs npm.")
    with serving(migrated(tmp_path_factory, "tests.dashboard.site_settings")) as it:
        yield it


@pytest.fixture
def dashboard(browser: Chrome, server: Server) -> Iterator[Dashboard]:
    """A page without complaints of the browser's: about the policy, say, or a script."""
    it = Dashboard(browser, server)
    it.look()
    yield it
    it.open("/cut/no/", live=False)
    # The pages of a wrong filter and of an end of all rights are meant to be refusals.
    expected = ("favicon", "(Bad Request)", "(Forbidden)")
    assert [line for line in it.complaints() if not any(word in line for word in expected)] == []


@pytest.fixture
def climbing(server: Server) -> Iterator[str]:
    """The id of a task that runs until it is cancelled, at the end of the test at the latest."""
    task_id = start(server, CLIMB)
    yield task_id
    query = {"query": f'mutation {{ cancelTask(id: "{task_id}") {{ id }} }}'}
    httpx.post(server.url, json=query, timeout=TIMEOUT)


def test_a_row_moves_in_its_place(dashboard: Dashboard, climbing: str) -> None:
    """Bar and state change without a reload; the focus stays where it is."""
    dashboard.open()
    dashboard.press("j")
    dashboard.run("window.kept = document.activeElement")
    seen = {dashboard.row(climbing)["percent"]}

    def moved() -> bool:
        seen.add(dashboard.row(climbing)["percent"])
        return len(seen) > 4

    dashboard.wait("the bar to move", moved)
    dashboard.click(climbing, "cancel")
    dashboard.wait("the end", lambda: dashboard.row(climbing)["status"] == "cancelled")
    assert dashboard.row(climbing)["actions"] == ["retry"]
    assert dashboard.run("return window.kept === document.activeElement || kept.isConnected")
    dashboard.wait("the answer", lambda: "asked to end" in dashboard.text("#notice"))


def test_retry_announces_the_new_task(dashboard: Dashboard, server: Server) -> None:
    """It is not put under the mouse: a line over the list leads to it."""
    failed = start(server, "fall")
    dashboard.open()
    dashboard.wait("the end", lambda: dashboard.row(failed)["status"] == "failed")
    before = [it["id"] for it in dashboard.rows()]
    dashboard.click(failed, "retry")
    dashboard.wait("the answer", lambda: "runs again" in dashboard.text("#notice"))
    dashboard.wait("the news", lambda: "1 new task" in dashboard.text("#news"))
    assert [it["id"] for it in dashboard.rows()] == before
    assert "1 new task" in dashboard.text("#announcer")
    dashboard.press("n")
    dashboard.wait("the new task", lambda: len(dashboard.rows()) == len(before) + 1)
    assert dashboard.rows()[0]["id"] not in before


def test_two_browsers_at_once(dashboard: Dashboard, server: Server, climbing: str) -> None:
    """What one operator does the other one sees, who may only look.

    The other one has a tab at another name of the same host, and so cookies of its own.
    """
    browser = dashboard.browser
    here = browser.current_window_handle
    browser.switch_to.new_window("tab")
    there = browser.current_window_handle
    try:
        other = Dashboard(browser, server, "viewer", host="localhost").open()
        assert other.row(climbing)["actions"] == []
        assert "read only" in other.text(".who")
        browser.switch_to.window(here)
        dashboard.open()
        dashboard.click(climbing, "cancel")
        for page, window in ((dashboard, here), (other, there)):
            browser.switch_to.window(window)
            page.wait("the end", lambda page=page: page.row(climbing)["status"] == "cancelled")
        assert other.row(climbing)["actions"] == []
    finally:
        browser.switch_to.window(there)
        browser.close()
        browser.switch_to.window(here)


def test_by_keyboard_alone(dashboard: Dashboard, server: Server) -> None:
    """Filter, move, cancel, retry, open, help: without the mouse."""
    first, second = start(server, CLIMB), start(server, CLIMB)
    dashboard.open()
    dashboard.press("/")
    dashboard.press("state:running name:wander", Keys.ENTER)
    dashboard.wait("the filter", lambda: "q=state" in dashboard.browser.current_url)
    dashboard.wait("the stream", lambda: dashboard.connection() == "live")
    dashboard.press("c")  # no row is chosen: nothing is cancelled
    dashboard.press("j", "j", "k", "j")
    assert [it["id"] for it in dashboard.rows() if it["focused"]] == [first]
    dashboard.press("c")
    dashboard.wait("the cancel", lambda: dashboard.row(first)["status"] == "cancelled")
    assert dashboard.row(second)["status"] == "running"
    dashboard.press("r")
    dashboard.wait("the retry", lambda: "runs again" in dashboard.text("#notice"))
    dashboard.press("?")
    assert dashboard.run("return document.querySelector('#keys').open")
    dashboard.press(Keys.ESCAPE)
    assert not dashboard.run("return document.querySelector('#keys').open")
    dashboard.press("k", Keys.ENTER)
    dashboard.wait("the page", lambda: dashboard.browser.current_url.endswith(f"/{second}/"))


def test_the_filter_completes_its_last_word(dashboard: Dashboard) -> None:
    """States, queues, names: after what is there already."""
    dashboard.open()
    dashboard.find("#q").send_keys("queue:default state:f")
    options = dashboard.run(
        "return [...document.querySelectorAll('#candidates option')].map((it) => it.value)"
    )
    assert options[0] == "queue:default state:failed"
    dashboard.find("#q").send_keys(Keys.END, "ailed", Keys.ENTER)
    dashboard.wait("the answer", lambda: "state%3Afailed" in dashboard.browser.current_url)
    assert (
        dashboard.run("return document.querySelector('#q').value") == "queue:default state:failed"
    )


def test_polling_while_the_stream_is_cut(
    dashboard: Dashboard, server: Server, climbing: str
) -> None:
    """A banner says so, the page stays fresh, and goes live again by itself."""
    dashboard.open()
    dashboard.run("fetch('/cut/yes/')")
    dashboard.wait("the banner", lambda: "asks every" in dashboard.text("#banner"))
    assert dashboard.connection() == "polling"
    before = dashboard.row(climbing)["percent"]
    dashboard.wait("a fresh bar", lambda: dashboard.row(climbing)["percent"] != before)
    dashboard.run("fetch('/cut/no/')")
    dashboard.wait("the stream", lambda: dashboard.connection() == "live")
    assert not dashboard.find("#banner").is_displayed()
    dashboard.click(climbing, "cancel")
    dashboard.complaints()  # the refused streams


def test_a_right_that_is_lost(dashboard: Dashboard, climbing: str) -> None:
    """The page says so, and asks no more."""
    dashboard.open()
    dashboard.run("fetch('/as/anonymous/')")
    dashboard.wait("the end", lambda: dashboard.connection() == "lost")
    assert "signed out" in dashboard.text("#banner")


def test_without_the_library(dashboard: Dashboard, climbing: str) -> None:
    """Every action works by a plain form; the outcome is on the page that follows."""
    browser = dashboard.browser
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*htmx.min.js*"]})
    try:
        dashboard.open(live=False)
        assert dashboard.connection() == "still"
        dashboard.click(climbing, "cancel")
        dashboard.wait("the next page", lambda: "asked to end" in dashboard.text("#notice"))
    finally:
        browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
        dashboard.complaints()  # the blocked script


@pytest.mark.covering("width", "scheme")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing(
    dashboard: Dashboard, server: Server, climbing: str, scheme: str, width: int
) -> None:
    """Every rule of axe-core over a row in each state, a wrong filter, an empty list, a refusal."""
    if (problem := node_problem()) is not None:
        unavailable(problem)
    start(server, "add(a: 1)")
    start(server, "fall")
    dashboard.look(width=width, dark=scheme == "dark")
    axe = (CLIENTS / "node_modules/axe-core/axe.min.js").read_text()
    for path in ("/tasks/", "/tasks/?q=stat:x", "/tasks/?q=owner:none", "/tasks/errors/?x"):
        dashboard.open(path)
        dashboard.run(axe)
        found: Any = dashboard.browser.execute_async_script(
            "axe.run(document, { resultTypes: ['violations'] }).then(arguments[0])"
        )
        assert found["violations"] == [], json.dumps(found["violations"], indent=1)[:3000]
        assert dashboard.run("return document.documentElement.scrollWidth") <= width
    dashboard.open()
    dashboard.click(climbing, "cancel")


@pytest.mark.long
def test_ten_thousand_rows_and_two_hundred_updates_a_second(
    dashboard: Dashboard, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures of docs/dashboard.md: the first paint, and the page's tasks over 50 ms."""
    dashboard.open("/fill/10000/", live=False)
    tasks = [start(server, "climb(steps: 3000, pause: 0.05)") for _ in range(50)]
    dashboard.open()
    paint = dashboard.run(
        "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
    )
    dashboard.run(
        """
        window.long = []; window.changes = 0;
        new PerformanceObserver((list) => long.push(...list.getEntries().map((it) => it.duration)))
          .observe({ type: "longtask" });
        new MutationObserver((list) => changes += list.length).observe(
          document.querySelector("#rows"),
          { subtree: true, attributes: true, attributeFilter: ["aria-valuenow"] });
        window.began = performance.now();
        """
    )
    before = _processor_seconds(dashboard)
    dashboard.wait("6,000 changes", lambda: dashboard.run("return changes") >= 6000, 120)
    used = _processor_seconds(dashboard) - before
    seconds = dashboard.run("return (performance.now() - began) / 1000")
    found, changes = dashboard.run("return [long, changes]")
    with capsys.disabled():
        sys.stdout.write(
            f"\nfirst paint {paint:.0f} ms; {changes / seconds:.0f} updates/s for {seconds:.0f} s,"
            f" {used / changes * 1000:.2f} ms of the page's thread per update;"
            f" {len(found)} page tasks over 50 ms, the longest {max(found, default=0):.0f} ms\n"
        )
    for task in tasks:
        dashboard.click(task, "cancel")


def _processor_seconds(dashboard: Dashboard) -> float:
    """Returns what the page's main thread has used of a processor, whatever else runs."""
    call = dashboard.browser.execute_cdp_cmd
    call("Performance.enable", {"timeDomain": "threadTicks"})
    metrics = call("Performance.getMetrics", {})["metrics"]
    return float(next(it["value"] for it in metrics if it["name"] == "TaskDuration"))
