"""The page of a task in a browser: each action, the keys, live, copies, what accessibility asks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Permission, User
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskEvent, TaskExecution, TaskRuntime
from tests.dashboard.task_browser import (
    click,
    colours,
    complaints,
    serving,
    shown,
    sign_in,
    text_of,
    violations,
    width,
)
from tests.dashboard.test_task_page import HOSTILE, store
from tests.support.places import Place, place
from tests.support.server import Server
from tests.support.waiting import TIMEOUT, wait_for

__all__ = ["place"]

pytestmark = pytest.mark.parametrize("place", ["sqlite"], indirect=True, scope="module")

EVERY_KIND: dict[str, Any] = {
    "title": "Quarterly", "copies": 2, "ratio": 1.5, "price": "19.99",
    "key": "123e4567-e89b-12d3-a456-426614174000", "at": "2026-01-16T12:00:00+00:00",
    "day": "2026-01-16", "pause": "PT90S", "paper": "LETTER", "mode": 3, "draft": False,
    "lines": [{"sku": "x", "count": 2}], "extra": {"url": "https://example.com/a.png"},
}  # fmt: skip


class Site:
    """A signed-in browser on a server."""

    def __init__(self, browser: Any, server: Server, root: str, user: User) -> None:
        self.browser, self.server, self.root, self.user = browser, server, root, user

    def open(self, path: str) -> None:
        self.browser.get(f"{self.root}{path}")

    def start(self, mutation: str) -> str:
        """Starts a task without an owner over GraphQL; returns its id."""
        query = {"query": f"mutation {{ t: {mutation} {{ taskId }} }}"}
        answer = httpx.post(self.server.url, json=query, timeout=TIMEOUT)
        return str(answer.json()["data"]["t"]["taskId"])

    def state(self) -> str:
        return text_of(self.browser, ".run-state .state")

    def wait_for_state(self, status: str) -> None:
        wait_for(lambda: self.state() == status, self.state)

    def click(self, selector: str) -> None:
        click(self.browser, selector)

    def type(self, name: str, text: str) -> None:
        field = shown(self.browser, f"[name='value-{name}']")
        field.clear()
        field.send_keys(text)

    def press(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[Server]:
    """One server for the tests below; each begins without tasks."""
    with serving(place.env) as it:
        yield it


@pytest.fixture(scope="module")
def ann(place: Place) -> User:
    return User.objects.create_superuser("ann")


@pytest.fixture
def site(server: Server, ann: User, browser: Any) -> Iterator[Site]:
    """Signed in as a superuser, at the browser's own width and in light colours."""
    TaskExecution.objects.all().delete()
    colours(browser, "light")
    width(browser, None)
    root = sign_in(browser, server, ann)
    complaints(browser)
    yield Site(browser, server, root, ann)
    browser.get("about:blank")


def failed(**fields: Any) -> TaskExecution:
    """A failed task with four attempts, a process and the audit."""
    at = datetime.now(UTC) - timedelta(minutes=4)
    runtime = TaskRuntime.objects.create(
        id=new_id(), place="web-1 4711", started_at=at, renewed_at=at, lapses_at=at
    )
    row = store(
        "failed",
        **{
            "name": "form.every_kind", "arguments": EVERY_KIND, "error": "'isbn'",
            "error_type": "KeyError", "error_code": "exception", "traceback": "Traceback:\n  x",
            "seq": 5, "attempts": 2, "retry_count": 1, "created_at": at, "progress": 64,
            "started_at": at + timedelta(seconds=20), "runtime_id": runtime.id,
            "completed_at": at + timedelta(seconds=30), **fields,
        },
    )  # fmt: skip
    changes = [
        (None, "pending", 0, 0, "created"), ("pending", "running", 1, 9, "claimed"),
        ("running", "retrying", 1, 15, "retrying"), ("retrying", "running", 2, 20, "claimed"),
        ("running", "failed", 2, 30, "exception"),
    ]  # fmt: skip
    for seq, (before, after, attempt, seconds, reason) in enumerate(changes, 1):
        TaskEvent.objects.create(
            execution_id=row.id, name=row.name, seq=seq, from_status=before, to_status=after,
            attempt=attempt, at=at + timedelta(seconds=seconds), reason=reason,
            actor=f"runtime:{runtime.id}" if after == "running" else "runtime",
        )  # fmt: skip
    return row


def test_a_running_task_is_followed_to_its_end(site: Site, tmp_path: Path) -> None:
    """Bar and message move with the stream, and the page shows the result without a reload."""
    task_id = site.start(f'climb(steps: 2, pause: 0, label: "up", seen: "{tmp_path}")')
    site.open(f"{task_id}/")
    site.browser.execute_script("window.same = true")
    bar = "document.querySelector('[role=progressbar]').getAttribute('aria-valuenow')"
    first = wait_for(lambda: int(site.browser.execute_script(f"return {bar}")))
    (tmp_path / "step 1").touch()  # the task waits until its step has been seen
    wait_for(lambda: int(site.browser.execute_script(f"return {bar}")) > first)
    wait_for(lambda: text_of(site.browser, "[data-part=message]") == "step 2")
    (tmp_path / "step 2").touch()
    site.wait_for_state("completed")
    wait_for(lambda: "steps" in text_of(site.browser, "#result"))
    assert site.browser.execute_script("return window.same")
    assert complaints(site.browser) == []


def test_a_cancel_by_the_button_and_by_the_key(site: Site) -> None:
    """The audit has who it was, and the page follows to the end."""
    for cancel in (lambda: site.click("button[data-action=cancel]"), lambda: site.press("c")):
        task_id = site.start("linger")
        site.open(f"{task_id}/")
        site.wait_for_state("running")
        cancel()
        site.wait_for_state("cancelled")
        asked = TaskEvent.objects.get(execution_id=task_id, reason="cancel_requested")
        assert asked.actor == str(site.user.pk)


def test_a_retry_opens_the_new_tasks_page(site: Site) -> None:
    """By the button and by the key; it names the task that it retries."""
    task_id = site.start("fall")
    for retry in (lambda: site.click("button[data-action=retry]"), lambda: site.press("r")):
        site.open(f"{task_id}/")
        site.wait_for_state("failed")
        retry()
        wait_for(lambda: task_id not in site.browser.current_url)
        wait_for(lambda: task_id in text_of(site.browser, ".family"))
        site.wait_for_state("failed")
    children = TaskExecution.objects.filter(parent_id=task_id)
    created = TaskEvent.objects.filter(
        execution_id__in=[it.id for it in children], reason="created"
    )
    assert [it.actor for it in created] == [str(site.user.pk)] * 2


def test_a_retry_with_other_arguments(site: Site) -> None:
    """A mistake is shown beside its field and starts nothing; what was typed stays."""
    row = failed()
    site.open(f"{row.id}/")
    site.click("a[data-action=arguments]")
    site.type("title", "Yearly")
    site.type("copies", "many")
    site.type("lines", "[{}]")
    site.click("button[data-action=start]")
    shown(site.browser, "#problems")
    assert text_of(site.browser, "#error-copies") == "must be a whole number such as 42."
    assert text_of(site.browser, "#error-lines") == "[0].sku: is required."
    assert shown(site.browser, "[name=value-title]").get_attribute("value") == "Yearly"
    wait_for(lambda: site.browser.switch_to.active_element.get_attribute("id") == "problems")
    assert TaskExecution.objects.count() == 1
    site.type("copies", "3")
    site.type("lines", '[{"sku": "y"}, {"sku": "z"}]')
    site.click("button[data-action=start]")
    site.wait_for_state("completed")
    wait_for(lambda: "Yearly" in text_of(site.browser, "#result"))
    new = TaskExecution.objects.get(parent_id=row.id)
    assert (new.arguments["title"], new.arguments["copies"]) == ("Yearly", 3)
    assert new.result == {"title": "Yearly", "copies": 3, "lines": 2}


def test_the_form_works_by_keyboard_alone(site: Site) -> None:
    """From the task's page to the new one: tabs, arrows and Enter."""
    row = failed(name="form.maybe", arguments={"name": "a"}, seq=4)
    site.open(f"{row.id}/")
    shown(site.browser, "a[data-action=arguments]").send_keys(Keys.ENTER)
    field = shown(site.browser, "[name=value-name]")
    for _ in range(40):
        if site.browser.switch_to.active_element == field:
            break
        site.press(Keys.TAB)
    site.press(Keys.HOME + "b" + Keys.ENTER)
    site.wait_for_state("completed")
    assert TaskExecution.objects.get(parent_id=row.id).arguments["name"] == "ba"


def test_what_a_mode_hides_is_not_asked_for(site: Site) -> None:
    """The input of a default is hidden, and shown with the focus once a value is chosen."""
    row = failed()
    site.open(f"{row.id}/arguments/")
    limit = site.browser.find_element(By.CSS_SELECTOR, "[name=value-limit]")
    assert not limit.is_displayed()
    mode = shown(site.browser, "[name=mode-limit]")
    mode.send_keys("V")
    wait_for(limit.is_displayed)
    limit.send_keys("12")
    site.click("button[data-action=start]")
    site.wait_for_state("completed")
    assert TaskExecution.objects.get(parent_id=row.id).arguments["limit"] == 12


def test_copies_are_heard_and_pasted(site: Site) -> None:
    """The clipboard has the text; the button and a live region say so."""
    site.browser.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    row = failed()
    site.open(f"{row.id}/")
    site.click("[data-copy=read-cli]")
    wait_for(lambda: text_of(site.browser, "[data-copy=read-cli]") == "Copied")
    wait_for(lambda: text_of(site.browser, "#announcer") == "Copied")
    read = (
        "const done = arguments[0]; navigator.clipboard.readText().then(done, e => done(String(e)))"
    )
    assert site.browser.execute_async_script(read) == f"python manage.py tasks show {row.id}"
    wait_for(lambda: text_of(site.browser, "[data-copy=read-cli]") == "Copy")


def test_without_a_clipboard_the_text_is_selected(site: Site) -> None:
    """As over plain http, where browsers have none."""
    row = failed()
    site.open(f"{row.id}/")
    site.browser.execute_script(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
        " document.execCommand = () => false"
    )
    site.click("[data-copy=task-id]")
    wait_for(lambda: text_of(site.browser, "[data-copy=task-id]").startswith("Selected"))
    assert site.browser.execute_script("return String(getSelection())") == str(row.id)


def test_without_a_stream_the_page_asks_again(site: Site, tmp_path: Path) -> None:
    """State, bar and result come by polling, with a banner that says so."""
    added = site.browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": NO_STREAM}
    )
    try:
        task_id = site.start(f'climb(steps: 1, pause: 0, label: "up", seen: "{tmp_path}")')
        site.open(f"{task_id}/")
        wait_for(lambda: "live stream is cut" in text_of(site.browser, "#banner"))
        (tmp_path / "step 1").touch()
        site.wait_for_state("completed")
        wait_for(lambda: "steps" in text_of(site.browser, "#result"))
    finally:
        site.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_an_opened_part_stays_open_while_the_page_moves(site: Site, tmp_path: Path) -> None:
    """A refresh brings the state, and folds nothing up."""
    task_id = site.start(f'climb(steps: 1, pause: 0, label: "up", seen: "{tmp_path}")')
    site.open(f"{task_id}/")
    site.click("#arguments details.raw summary")
    (tmp_path / "step 1").touch()
    site.wait_for_state("completed")
    is_open = "return document.querySelector('#arguments details.raw').open"
    assert site.browser.execute_script(is_open)


def test_a_bulk_retry_from_the_list(site: Site) -> None:
    """Filter, number, confirmation, progress on a page of its own."""
    for _ in range(3):
        failed(seq=4)
    site.open("?q=state:failed")
    site.click("a[href*='bulk/retry']")
    assert shown(site.browser, "[data-count]").get_attribute("data-count") == "3"
    shown(site.browser, "[name=confirm]").send_keys("2" + Keys.ENTER)
    wait_for(lambda: "To confirm, type 3 or retry" in text_of(site.browser, "#problem"))
    assert TaskExecution.objects.count() == 3
    shown(site.browser, "[name=confirm]").send_keys("3" + Keys.ENTER)
    site.wait_for_state("completed")
    assert text_of(site.browser, "h1") == "rail_async_tasks.bulk_retry"
    assert text_of(site.browser, "[data-part=message]") == "3 of 3 tasks retried"
    assert TaskExecution.objects.filter(parent_id__isnull=False).count() == 3


# An `EventSource` that a proxy cuts.
NO_STREAM = """
    window.EventSource = class extends EventTarget {
        static CLOSED = 2;
        readyState = 2;
        constructor() { super(); setTimeout(() => this.onerror?.(), 50); }
        close() {}
    };
"""

# Each of the widths and each of the colour schemes once.
SCREENS = ((None, "light"), (360, "dark"))
PAGES = ("{id}/", "{done}/", "{id}/arguments/", "bulk/cancel/", "bulk/retry/?q=state:failed")


def test_axe_finds_nothing(site: Site) -> None:
    """Wide, and in dark colours at 360 pixels, where nothing is cut off."""
    row = failed(owner_id=str(site.user.pk), tenant_id="acme")
    done = store(result={"a": [1, {"b": None}]})
    store("pending", run_after=datetime.now(UTC) + timedelta(days=1))
    store("running", parent_id=row.id, name="form.every_kind")
    failed(seq=4)
    over = "return document.documentElement.scrollWidth - innerWidth"
    for path, (pixels, scheme) in product(PAGES, SCREENS):
        width(site.browser, pixels)
        colours(site.browser, scheme)
        site.open(path.format(id=row.id, done=done.id))
        assert violations(site.browser) == [], (path, scheme)
        assert site.browser.execute_script(over) <= 0, (path, scheme)
        assert complaints(site.browser) == [], (path, scheme)


def test_hostile_texts_stay_text(site: Site) -> None:
    """In a browser, which forgives broken markup: no element of theirs, no script, no dialog."""
    hostile = {HOSTILE: [HOSTILE, {"x": HOSTILE}], "url": "javascript:alert(4)"}
    row = failed(
        arguments=hostile, error=HOSTILE, error_type=HOSTILE, traceback=HOSTILE, owner_id=HOSTILE,
        tenant_id=HOSTILE, progress_message=HOSTILE, queue=HOSTILE[:100], name="form.secret",
    )  # fmt: skip
    done = store(result=hostile)
    for path in (
        f"{row.id}/",
        f"{done.id}/",
        f"{row.id}/arguments/",
        f"bulk/retry/?q=%22{'%3Cb%3E'}",
    ):
        site.open(path)
        found = site.browser.find_elements(
            By.CSS_SELECTOR, "main img, main b, main script, [onerror], a[href^='javascript:' i]"
        )
        assert found == []
    assert complaints(site.browser) == []


def test_a_visitor_without_the_right_has_no_buttons(site: Site) -> None:
    """And the keys do nothing."""
    user = User.objects.create_user("eve", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_taskexecution"))
    root = sign_in(site.browser, site.server, user)
    row = failed()
    site.browser.get(f"{root}{row.id}/")
    assert site.browser.find_elements(By.CSS_SELECTOR, "[data-action]") == []
    site.press("r", "c")
    assert TaskExecution.objects.count() == 1
