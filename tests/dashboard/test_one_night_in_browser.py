"""The story of docs/one-night.md by the dashboard, and its pages by keyboard and by axe."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys

from rail_async_tasks.dashboard.assets import HTMX, has
from tests.dashboard.pages import Dashboard
from tests.services.node import CLIENTS, node_problem
from tests.support.needs import unavailable
from tests.support.server import Server
from tests.support.shop_server import migrated, serving

pytestmark = pytest.mark.browser

# The most starts of one request.
STARTS = 20
# The machine may be busy, and counts are written a few times a minute.
TIMEOUT_SECONDS = 180.0

# Elements that stick out of the page.
WIDE = """
return [...document.querySelectorAll("main *, header *")]
  .filter((it) => it.getBoundingClientRect().right > innerWidth)
  .map((it) => `${it.tagName}.${it.className} ${it.innerText}`.slice(0, 80));
"""

PAGES = ("errors", "queues", "processes", "schedules", "charts", "charts/?window=week&by=name")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The payment service is up while there is this file."""
    return tmp_path_factory.mktemp("service") / "up"


@pytest.fixture(scope="module")
def server_env(tmp_path_factory: pytest.TempPathFactory, service: Path) -> dict[str, str]:
    env = migrated(tmp_path_factory, "tests.dashboard.night_settings")
    return env | {"NIGHT_SERVICE": str(service)}


@pytest.fixture(scope="module")
def server(server_env: dict[str, str]) -> Iterator[Server]:
    if not has(HTMX):
        unavailable("No htmx: run scripts/htmx_library.py, which needs npm.")
    with serving(server_env) as it:
        yield it


@pytest.fixture
def dashboard(browser: Chrome, server: Server) -> Iterator[Dashboard]:
    """A page without complaints of the browser's: about the policy, say, or a script."""
    it = Dashboard(browser, server)
    it.look()
    yield it
    it.browser.get("about:blank")
    assert [line for line in it.complaints() if "favicon" not in line] == []


def charge(server: Server, count: int) -> None:
    """Starts so many tasks that charge a card."""
    for first in range(0, count, STARTS):
        numbers = range(first, min(first + STARTS, count))
        fields = " ".join(f"i{n}: chargeCard(invoice: {n}) {{ taskId }}" for n in numbers)
        query = {"query": f"mutation {{ {fields} }}"}
        assert "errors" not in httpx.post(server.url, json=query, timeout=60).json()


def queue(dashboard: Dashboard, name: str) -> dict[str, Any]:
    """The row of a queue, as it stands on the page."""
    found: dict[str, Any] = dashboard.run(
        """
        const row = document.querySelector(`[data-queue="${arguments[0]}"]`);
        const cells = [...row.cells].map((it) => it.innerText);
        return {
          paused: row.hasAttribute("data-paused"), text: row.innerText,
          pending: Number(cells.at(-5).replace(",", "")),
        };
        """,
        name,
    )
    return found


def charges(dashboard: Dashboard, status: str) -> int:
    """Counts the charges in a state."""
    cookies = {it["name"]: it["value"] for it in dashboard.browser.get_cookies()}
    url = f"{dashboard.base}/api/v1/tasks/?status={status}&name=charge_card&limit=500"
    count, after = 0, ""
    while True:
        page = httpx.get(f"{url}{after}", cookies=cookies, timeout=60).json()
        count += len(page["results"])
        if page["next"] is None:
            return count
        after = f"&after={page['next']}"


def all_have_ended(dashboard: Dashboard) -> bool:
    return not charges(dashboard, "pending") and not charges(dashboard, "running")


@pytest.mark.parametrize("tasks", [120, pytest.param(500, marks=pytest.mark.long)])
def test_one_night(
    dashboard: Dashboard, server: Server, server_env: dict[str, str], service: Path, tasks: int
) -> None:
    """Found grouped, paused, mended, retried with one confirmation, drained."""
    charge(server, tasks)
    dashboard.wait("the failures", lambda: charges(dashboard, "failed") >= tasks, TIMEOUT_SECONDS)
    dashboard.wait("the end", lambda: all_have_ended(dashboard), TIMEOUT_SECONDS)
    failed = charges(dashboard, "failed")  # those of other tests too
    dashboard.open("/tasks/errors/")

    def grouped() -> bool:
        found = dashboard.run("return document.querySelector('.group')?.innerText ?? ''")
        return "PaymentServiceDown" in found and f"\n{failed}\n" in found

    dashboard.wait("one group", grouped, TIMEOUT_SECONDS)
    assert "payments" in dashboard.text(".group .place") or "tasks.py" in dashboard.text(".place")
    assert dashboard.run("return document.querySelectorAll('.group').length") == 1

    dashboard.open("/tasks/queues/")
    dashboard.find('[data-queue="payments"] button[data-action=pause]').click()
    dashboard.wait("the pause", lambda: queue(dashboard, "payments")["paused"])
    dashboard.wait("the notice", lambda: "payments is paused" in dashboard.text("#notice"))
    assert "by operator" in queue(dashboard, "payments")["text"]
    charge(server, 10)
    dashboard.wait("ten that wait", lambda: queue(dashboard, "payments")["pending"] == 10)

    service.touch()
    dashboard.find('[data-queue="payments"] button[data-action=resume]').click()
    dashboard.wait("the end of the pause", lambda: not queue(dashboard, "payments")["paused"])
    dashboard.wait("those ten", lambda: charges(dashboard, "completed") == 10, TIMEOUT_SECONDS)

    dashboard.open("/tasks/errors/")
    dashboard.find("[data-retry-all]").click()
    there = "return !!document.querySelector('#confirm')"
    dashboard.wait("the count", lambda: dashboard.run(there))
    assert dashboard.find("[data-count]").get_attribute("data-count") == str(failed)
    dashboard.find("#confirm").send_keys(str(failed))
    dashboard.find("button[data-action=bulk-retry]").click()
    dashboard.wait(
        "the drain", lambda: charges(dashboard, "completed") == failed + 10, TIMEOUT_SECONDS
    )

    path = server_env["TEST_DATABASE_URL"].removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT reason, actor FROM rail_async_tasks_event").fetchall()
        (user,) = database.execute("SELECT id FROM auth_user WHERE username='operator'").fetchone()
    assert ("queue_paused", str(user)) in rows
    assert ("queue_resumed", str(user)) in rows


def test_by_keyboard_alone(dashboard: Dashboard) -> None:
    """From the navigation to a pause and back, by Tab and Enter."""
    dashboard.open("/tasks/")
    _tab_to(dashboard, "nav a[href$='/tasks/queues/']")
    dashboard.press(Keys.ENTER)
    dashboard.wait("the page", lambda: dashboard.run("return !!document.querySelector('#queues')"))
    dashboard.wait("the stream", lambda: dashboard.connection() == "live")
    _tab_to(dashboard, '[data-queue="low"] button')
    dashboard.press(Keys.ENTER)
    dashboard.wait("the pause", lambda: queue(dashboard, "low")["paused"])
    _tab_to(dashboard, '[data-queue="low"] button')
    dashboard.press(Keys.SPACE)
    dashboard.wait("its end", lambda: not queue(dashboard, "low")["paused"])


def _tab_to(dashboard: Dashboard, selector: str) -> None:
    for _ in range(80):
        if dashboard.run("return document.activeElement.matches(arguments[0])", selector):
            return
        dashboard.press(Keys.TAB)
    raise AssertionError(f"The focus never came to {selector}")


def test_run_now(dashboard: Dashboard) -> None:
    """The button starts the task of the schedule."""
    dashboard.open("/tasks/schedules/")
    dashboard.find('[data-schedule="nightly_report"] button[data-action=run]').click()
    dashboard.wait("the answer", lambda: "is started" in dashboard.text("#notice"))


def test_a_viewer_has_no_buttons(browser: Chrome, server: Server) -> None:
    """Who may see and not change reads the same pages."""
    viewer = Dashboard(browser, server, "viewer")
    for page in PAGES:
        viewer.open(f"/tasks/{page if '?' in page else page + '/'}")
        assert viewer.run("return document.querySelectorAll('[data-action]').length") == 0
        assert viewer.run("return document.querySelectorAll('[data-retry-all]').length") == 0


@pytest.mark.covering("width", "scheme")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing(dashboard: Dashboard, server: Server, scheme: str, width: int) -> None:
    """Every rule of axe-core over each page; none is wider than the screen."""
    if (problem := node_problem()) is not None:
        unavailable(problem)
    charge(server, 3)
    dashboard.look(width=width, dark=scheme == "dark")
    axe = (CLIENTS / "node_modules/axe-core/axe.min.js").read_text()
    for page in PAGES:
        dashboard.open(f"/tasks/{page if '?' in page else page + '/'}")
        dashboard.run(axe)
        found: Any = dashboard.browser.execute_async_script(
            "axe.run(document, { resultTypes: ['violations'] }).then(arguments[0])"
        )
        assert found["violations"] == [], json.dumps(found["violations"], indent=1)[:3000]
        wide = dashboard.run("return document.documentElement.scrollWidth")
        assert wide <= width, (page, dashboard.run(WIDE))
