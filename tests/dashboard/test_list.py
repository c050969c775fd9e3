"""The list: rows, filter, pages, and texts of tasks that try to be markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

from rail_async_tasks.models import TaskExecution
from tests.dashboard.conftest import token_of

pytestmark = pytest.mark.django_db

MARKUP = (
    "\"><script>alert(1)</script><img src=x onerror=alert(1)>'{{1111*9001}}<hx-partial hx-get=/>"
)


class Tags(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def having(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.found if name in attrs]


@pytest.fixture
def client(as_: Callable[[str], Client]) -> Client:
    return as_("operator")


def tags(client: Client, url: str = "/tasks/", **query: str) -> Tags:
    return Tags(client.get(url, query).content.decode())


def shown(client: Client, **query: str) -> list[str | None]:
    return [it["data-task"] for it in tags(client, **query).having("data-task")]


def test_rows_bars_and_buttons(client: Client, row: Callable[..., TaskExecution]) -> None:
    """Each state has its row, bar and button, by the names that programs look for."""
    states = ["pending", "running", "retrying", "completed", "failed", "cancelled"]
    tasks = {state: row(state, progress=40 if state == "running" else 0) for state in states}
    page = tags(client)
    rows = {it["data-status"]: it["data-task"] for it in page.having("data-task")}
    assert rows == {state: str(task.id) for state, task in tasks.items()}
    bars = [it for it in page.having("aria-valuenow") if it["role"] == "progressbar"]
    assert sorted(str(it["aria-valuenow"]) for it in bars) == ["0"] * 5 + ["40"]
    actions = [it["data-action"] for it in page.having("data-action")]
    assert sorted(map(str, actions)) == ["cancel"] * 3 + ["retry"] * 3
    (field,) = [it for it in page.having("name") if it["name"] == "q"]
    assert field["value"] == ""


def test_the_filter_is_kept(client: Client, row: Callable[..., TaskExecution]) -> None:
    """In the field, and in the links to further pages."""
    failed, _ = row("failed"), row("pending")
    assert shown(client, q="state:failed") == [str(failed.id)]
    (field,) = [it for it in tags(client, q='name:"a b"').having("name") if it["name"] == "q"]
    assert field["value"] == 'name:"a b"'


def test_a_wrong_filter_shows_no_task(client: Client, row: Callable[..., TaskExecution]) -> None:
    """Rather than all of them, of which one might cancel some."""
    row("pending")
    answer = client.get("/tasks/", {"q": "stat:failed"})
    assert answer.status_code == 400
    text = answer.content.decode()
    assert "There is no qualifier stat:" in text
    assert "data-task" not in text
    assert 'aria-invalid="true"' in text


def test_pages_by_the_last_task(client: Client, row: Callable[..., TaskExecution]) -> None:
    """Every task once, newest first, also when new ones come meanwhile."""
    tasks = [row("pending", age=age) for age in range(120, 0, -1)]
    newest_first = [str(it.id) for it in tasks][::-1]
    first = tags(client, q="queue:default")
    (link,) = [it["href"] for it in first.having("rel") if it["rel"] == "next"]
    row("pending")
    second = tags(client, f"/tasks/{link}")
    (link,) = [it["href"] for it in second.having("rel") if it["rel"] == "next"]
    third = tags(client, f"/tasks/{link}")
    seen = [it["data-task"] for page in (first, second, third) for it in page.having("data-task")]
    assert seen == newest_first
    assert "q=queue%3Adefault" in str(link)
    assert not [it for it in third.having("rel") if it["rel"] == "next"]


def test_empty_states_say_what_to_do(client: Client, row: Callable[..., TaskExecution]) -> None:
    """No task at all is another matter than none that fits."""
    assert "@task_mutation" in client.get("/tasks/").content.decode()
    row("pending")
    text = client.get("/tasks/", {"q": "state:failed"}).content.decode()
    assert "No task fits" in text
    assert "show all tasks" in text


def test_texts_of_tasks_stay_texts(client: Client, row: Callable[..., TaskExecution]) -> None:
    """Names, messages, arguments, errors, results, owners and queues that try to be markup."""
    fields: dict[str, Any] = {
        "name": MARKUP[:255], "queue": MARKUP[:100], "owner_id": MARKUP[:255],
        "arguments": {MARKUP: MARKUP},
    }  # fmt: skip
    tasks = [
        row("failed", error=MARKUP, error_type=MARKUP[:255], **fields),
        row("running", progress_message=MARKUP, **fields),
        row("completed", result={"html": MARKUP}, **fields),
    ]
    urls = ["/tasks/", "/tasks/live?ids=" + ",".join(str(it.id) for it in tasks)]
    for url in [*urls, *(f"/tasks/{it.id}/" for it in tasks)]:
        text = client.get(url).content.decode()
        found = Tags(text)
        assert not [
            it for it in found.found if it[0] in {"img", "hx-partial"} and "onerror" in it[1]
        ]
        scripts = [attrs for tag, attrs in found.found if tag == "script"]
        assert all(attrs.get("src", "").startswith("/tasks/assets/") for attrs in scripts)  # type: ignore[union-attr]
        assert "<hx-partial" not in text
        assert not [it for it in found.having("hx-get") if it["hx-get"] == "/"]
        assert "10000111" not in text
    assert client.get("/tasks/", {"q": MARKUP}).content.decode().count("<script>") == 0


def test_a_cancel_that_was_asked_for_is_shown(
    client: Client, row: Callable[..., TaskExecution]
) -> None:
    """In the place of the button."""
    row("running", cancel_requested=True)
    text = client.get("/tasks/").content.decode()
    assert "cancel requested" in text
    assert "data-action" not in text


def test_a_viewer_reads_only(as_: Callable[[str], Client], row: Callable[..., Any]) -> None:
    """No form, no button, and the head says so."""
    row("pending")
    text = as_("viewer").get("/tasks/").content.decode()
    assert "read only" in text
    assert "<form id=" not in text
    assert token_of(as_("operator"))


def test_counters(client: Client, row: Callable[..., TaskExecution]) -> None:
    """Always in view, on every page, with the age of the oldest pending task."""
    row("pending", age=90)
    row("pending", age=5000, run_after="2100-01-01T00:00:00Z")  # not due: not the oldest
    row("running")
    row("failed", age=30)
    row("failed", age=90000)
    text = client.get("/tasks/errors/").content.decode()
    counts = dict(re.findall(r'data-counter="(\w+)"[^>]*><dt>[^<]*</dt><dd>(\S+?)(?:<| )', text))
    assert counts["pending"] == "2"
    assert counts["running"] == "1"
    assert counts["failed"] == "1"
    assert "oldest 1 m 30 s" in text


def test_suggestions(client: Client, row: Callable[..., TaskExecution]) -> None:
    """States, queues, names and the error classes that there are."""
    row("failed", error_type="KeyError")
    (field,) = tags(client).having("data-candidates")
    for candidate in ("state:failed", "queue:default", "name:shop.pack", "error:KeyError"):
        assert f'"{candidate}"' in str(field["data-candidates"])
