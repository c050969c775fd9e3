"""`<rail-task>` in Chromium, under a content security policy that allows nothing inline."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from tests.clients.conftest import APPLICATION
from tests.clients.tab import CANCEL, FALL, SURVIVE, Tab
from tests.support.server import Server
from tests.support.shop_server import serving

pytestmark = pytest.mark.browser

MISSING = "0193b1a4-7c1e-7000-8000-000000000001"
REFUSED = "/nowhere/"  # a path at which the server refuses WebSockets


# Notes the types of the frames that the page sends.
NOTE_SENT = """
window.sent = [];
const { send } = WebSocket.prototype;
WebSocket.prototype.send = function (text) {
  sent.push(JSON.parse(text).type);
  send.call(this, text);
};
"""
# Notes each text of the live region.
NOTE_HEARD = """
window.heard = [];
const { shadowRoot } = document.querySelector("rail-task");
const region = shadowRoot.querySelector("[role=status]");
new MutationObserver(() => heard.push(region.textContent)).observe(region, { childList: true });
"""


@pytest.fixture
def tab(browser: Chrome, server: Server) -> Iterator[Tab]:
    """A page, which must not complain in the browser's console."""
    tab = Tab(browser, server)
    yield tab
    complaints = tab.complaints()
    browser.get("about:blank")
    assert complaints == []


def test_a_bar_moves_to_the_end(tab: Tab) -> None:
    """Over a WebSocket: value and text move, and the end comes once."""
    tab.add("a", id=tab.climb(), label="Report")
    look = tab.until("a", "completed")
    assert (look["role"], look["name"], look["label"]) == ("progressbar", "Report", "Report")
    assert (look["now"], look["percent"], look["status"]) == ("100", "100 %", "Done")
    assert look["text"] == "100 %, Done"
    updates = tab.seen("a", "update")
    percents = [it["progress"] for it in updates]
    assert percents == sorted(percents)
    assert any(0 < percent < 100 for percent in percents), percents
    assert [it["status"] for it in tab.seen("a", "end")] == ["completed"]
    assert tab.seen("a", "error") == []
    assert len(tab.sockets()) == 1


def test_the_words_of_a_running_task(tab: Tab) -> None:
    """The status has the task's message, and the bar has it as its text."""
    tab.add("a", id=tab.climb(steps=1, pause=60))
    look = tab.wait("its message", lambda: (it := tab.look("a"))["now"] == "50" and it)
    assert look["status"] == "Running: step 1"
    assert look["text"] == "50 %, Running: step 1"
    assert look["label"] == "climb"
    tab.request(CANCEL, id=tab.run("return document.querySelector('rail-task').task.id"))
    assert tab.until("a", "cancelled")["status"] == "Cancelled"


def test_a_failed_task(tab: Tab) -> None:
    """Its error is shown, and announced."""
    tab.add("a", id=tab.request(FALL), label="Report")
    look = tab.until("a", "failed")
    assert look["status"] == "Failed: it broke"
    assert look["announced"] == "Report Failed: it broke"
    assert [it["status"] for it in tab.seen("a", "end")] == ["failed"]


def test_a_task_that_is_over_already(tab: Tab) -> None:
    """One update and one end."""
    task_id = tab.climb(steps=1, pause=0)
    tab.add("a", id=task_id)
    tab.until("a", "completed")
    tab.add("b", task_id=task_id, id="an-id-of-the-page")
    tab.until("b", "completed")
    assert [it["name"] for it in tab.seen("b")] == ["update", "end"]


@pytest.mark.parametrize("task_id", [MISSING, "nonsense"])
def test_a_task_that_there_is_not(tab: Tab, task_id: str) -> None:
    """The bar gives way to words; nothing is tried again."""
    tab.add("a", id=task_id, label="Report")
    look = tab.until("a", "error")
    assert look["status"] == "This task does not exist, or you may not see it."
    assert look["announced"] == f"Report {look['status']}"
    assert look["hidden"]
    assert [(it["name"], it["code"]) for it in tab.seen("a")] == [("error", "NOT_FOUND")]
    tab.wait("the socket to be closed", lambda: tab.sockets() == [3])


def test_bars_share_one_socket_which_is_closed_after_them(tab: Tab) -> None:
    """Two elements and a watch of the page; a bar that is moved keeps its subscription."""
    ids = [tab.climb(steps=1, pause=60) for _ in range(2)]
    tab.run(NOTE_SENT)
    for name, task_id in zip("ab", ids, strict=True):
        tab.add(name, id=task_id)
    for name in "ab":
        tab.until(name, "running")
    tab.run("document.querySelector('h1').before(document.querySelector('[data-bar=b]'))")
    assert tab.sockets() == [1]
    tab.run("document.querySelector('[data-bar=a]').remove()")
    tab.wait("the first to be left", lambda: "complete" in tab.run("return sent"))
    assert tab.sockets() == [1]
    tab.run("document.querySelector('[data-bar=b]').remove()")
    tab.wait("the socket to be closed", lambda: tab.sockets() == [3])
    sent = tab.run("return sent")
    assert sent == ["connection_init", "subscribe", "subscribe", "complete", "complete"]
    for task_id in ids:
        tab.request(CANCEL, id=task_id)


def test_another_id(tab: Tab) -> None:
    """The bar leaves the one task and follows the other."""
    first = tab.climb(steps=1, pause=60)
    tab.add("a", id=first)
    tab.until("a", "running")
    second = tab.climb(steps=1, pause=0)
    tab.run("document.querySelector('rail-task').id = arguments[0]", second)
    tab.until("a", "completed")
    assert [it["name"] for it in tab.seen("a")].count("end") == 1
    assert tab.run("return document.querySelector('rail-task').task.id") == second
    tab.request(CANCEL, id=first)


def test_a_screen_reader_hears_the_end_alone(tab: Tab) -> None:
    """Progress is the bar's value; the live region has one text."""
    tab.add("a", id=tab.climb(), label="Report")
    tab.wait("the bar", lambda: tab.look("a"))
    tab.run(NOTE_HEARD)
    tab.until("a", "completed")
    assert [text for text in tab.run("return heard") if text] == ["Report Done"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(tab: Tab, site: Path, scheme: str) -> None:
    """Every rule of axe-core, best practices too, over a bar in each state."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    tab.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    running = tab.climb(steps=1, pause=60)
    states = {
        "running": running,
        "completed": tab.climb(steps=1, pause=0),
        "failed": tab.request(FALL),
        "error": MISSING,
    }
    for state, task_id in states.items():
        tab.add(state, id=task_id, label=f"A report that is {state}")
    for state in states:
        tab.until(state, state)
    tab.run((site / "static/axe.min.js").read_text())
    found = tab.browser.execute_async_script(
        "axe.run(document, { resultTypes: ['violations'] }).then(arguments[0])"
    )
    problems = {it["id"]: [node["html"] for node in it["nodes"]] for it in found["violations"]}
    assert problems == {}
    assert {"aria-progressbar-name", "color-contrast"} <= {it["id"] for it in found["passes"]}
    tab.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    tab.request(CANCEL, id=running)


def test_motion_and_colours_follow_the_user(tab: Tab) -> None:
    """No transition where the user wants less motion; other colours in a dark page."""
    tab.add("a", id=tab.climb(steps=1, pause=0))
    tab.until("a", "completed")
    looks = set()
    for motion, scheme in (("reduce", "light"), ("no-preference", "dark")):
        features = [
            {"name": "prefers-reduced-motion", "value": motion},
            {"name": "prefers-color-scheme", "value": scheme},
        ]
        tab.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        looks.add((tab.style("fill", "transitionDuration"), tab.style("fill", "backgroundColor")))
    tab.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert looks == {("0s", "rgb(24, 121, 78)"), ("0.2s", "rgb(76, 195, 138)")}


def test_words_of_the_page(tab: Tab) -> None:
    """`configure` changes them also where the element has been shown."""
    tab.add("a", id=tab.climb(steps=1, pause=0))
    tab.until("a", "completed")
    tab.configure("{ texts: { completed: 'Fertig' } }")
    tab.wait("the other word", lambda: tab.look("a")["status"] == "Fertig")


class TestWithoutWebSocket:
    """A browser logs each refused handshake, so these tests read its console away."""

    def test_events_take_over(self, browser: Chrome, server: Server) -> None:
        """Where sockets are refused the bar moves by server-sent events, more than one too."""
        tab = Tab(browser, server)
        for name in "ab":
            tab.add(name, id=tab.climb(), ws_url=REFUSED)
        for name in "ab":
            tab.until(name, "completed")
            percents = [it["progress"] for it in tab.seen(name, "update")]
            assert any(0 < percent < 100 for percent in percents), percents
            assert len(tab.seen(name, "end")) == 1
        entries = "return performance.getEntriesByType('resource').map((it) => it.name)"
        assert any(name.endswith("/graphql/") for name in tab.run(entries))
        complaints = tab.complaints()
        assert complaints
        assert all("WebSocket connection to" in it for it in complaints), complaints


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_replaced(
    browser: Chrome, server_env: dict[str, str], how: signal.Signals
) -> None:
    """Stopped or killed: each bar waits, goes on with the next server, and ends once."""
    ways: dict[str, dict[str, Any]] = {
        "ws": {"transports": "ws"},
        "sse": {"transports": "sse"},
        "poll": {"transports": "poll"},
        "any": {},
    }
    with serving(server_env, APPLICATION) as first:
        tab = Tab(browser, first)
        tab.configure("{ retryDelay: () => 500 }")
        for name, attributes in ways.items():
            tab.add(name, id=tab.request(SURVIVE), **attributes)
        for name in ways:
            tab.until(name, "running")
        os.kill(first.pid, how)
        first.wait(60)
        for name in ways:
            tab.wait(f"{name} to say so", lambda name=name: _is_lost(tab.look(name)))
    with serving(server_env, APPLICATION, port=first.port):
        for name in ways:
            tab.until(name, "completed")
        ends = {name: [it["status"] for it in tab.seen(name, "end")] for name in ways}
        assert ends == {name: ["completed"] for name in ways}
        assert [it for it in tab.run("return seen") if it["name"] == "error"] == []
        browser.get("about:blank")
    browser.get_log("browser")  # has each connection that was refused meanwhile


def _is_lost(look: dict[str, Any]) -> bool:
    return look["status"] == "Connection lost, trying again"
