"""The pages of errors, queues, processes, schedules and charts, and their actions."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from rail_async_tasks import queues, task
from rail_async_tasks.dashboard import errors, schedules
from rail_async_tasks.dashboard.query import parse_query
from rail_async_tasks.dashboard.search import find
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.orm.rollups import digest
from rail_async_tasks.models import (
    ErrorRollup,
    TaskEvent,
    TaskExecution,
    TaskRollup,
    TaskRuntime,
    TaskSchedule,
)
from rail_async_tasks.registry import registry
from rail_async_tasks.service import statistics
from rail_async_tasks.service.statistics import ErrorGroup
from tests.dashboard.conftest import KINDS, token_of

pytestmark = pytest.mark.django_db

Row = Callable[..., TaskExecution]
As = Callable[[str], Client]

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'
PLACE = "shop/tasks.py:42 in import_rows"


@pytest.fixture(autouse=True)
def declarations_are_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that a test declares are forgotten after it."""
    for name in ("_definitions", "coroutine_names", "thread_names"):
        monkeypatch.setattr(registry, name, getattr(registry, name))


def seen(name: str = "add", error: str = "KeyError", place: str = PLACE, **fields: Any) -> None:
    """Stores an error of the hour."""
    now = int(time.time())
    values: dict[str, Any] = {
        "failed": 3, "retried": 1, "first_at": now - 60, "last_at": now, "example_id": new_id(),
    }  # fmt: skip
    ErrorRollup.objects.create(
        id=digest(now, name, error, place), start=now // 3600 * 3600, name=name, error=error,
        place=place, **(values | fields),
    )  # fmt: skip


def counted(name: str = "add", queue: str = "default", **counts: int) -> None:
    """Stores counts of this minute, in each span."""
    now = int(time.time())
    for span in (60, 600, 3600):
        start = now // span * span
        TaskRollup.objects.create(
            id=digest(span, start, name, queue), span=span, start=start, name=name, queue=queue,
            **counts,
        )  # fmt: skip


def text_of(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200, answer.content.decode()
    return answer.content.decode()


# --- errors ---------------------------------------------------------------------------------------


def test_an_error_with_its_facts(as_: As, row: Row) -> None:
    """Class, place, message, names, counts and links; the example while it exists."""
    failed = row("failed", error="no sku", error_type="KeyError", error_place=PLACE)
    seen(example_id=failed.id)
    seen(name="sub", last_at=int(time.time()) - 30)
    text = text_of(as_("superuser"), "/tasks/errors/")
    for part in ("KeyError", PLACE, "no sku", ">add</a>", ">sub</a>", f"/tasks/{failed.id}/"):
        assert part in text
    assert "8 attempts in the last 24 hours" in text


def test_an_example_that_has_expired_is_no_link(as_: As) -> None:
    """The group outlives the rows that it counts."""
    gone = new_id()
    seen(example_id=gone)
    text = text_of(as_("superuser"), "/tasks/errors/")
    assert PLACE in text
    assert str(gone) not in text


def test_an_expired_examples_text_is_hidden(as_: As, row: Row) -> None:
    """As its page is; its row waits for the next clean-up."""
    past = datetime.now(UTC) - timedelta(hours=1)
    expired = row("failed", error="expired hunter2", expires_at=past)
    seen(example_id=expired.id)
    text = text_of(as_("superuser"), "/tasks/errors/")
    assert PLACE in text
    assert "hunter2" not in text
    assert str(expired.id) not in text


def group_of(error: str, place: str) -> ErrorGroup:
    return ErrorGroup(
        error=error, place=place, names=["add"], failed=1, retried=0, first_at=0, last_at=0,
        hours=[0], example_id=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "place"),
    [("KeyError", PLACE), ("KeyError", "a b, c/d.py:1 in <lambda>"), ("worker_lost", "")],
)
def test_the_filter_chooses_exactly_the_group(row: Row, error: str, place: str) -> None:
    """Its failed tasks, by class and place; none of another place, class or state."""
    fields = {"error_place": place or None}
    fields |= {"error_code": error} if error == "worker_lost" else {"error_type": error}
    mine = {row("failed", **fields).id for _ in range(3)}
    row("failed", error_type=error, error_place="other.py:1 in f")
    row("failed", error_type="ValueError", error_place=place or None)
    row("retrying", **fields)
    row("completed")
    found = find("default", parse_query(errors.filter_of(group_of(error, place))))
    assert {it.id for it in found.tasks} == mine


def test_retry_all_leads_to_the_bulk_page_with_the_filter(as_: As) -> None:
    """For those who may change tasks; others get no such link."""
    seen()
    text = text_of(as_("operator"), "/tasks/errors/")
    link = unescape(text.split("data-retry-all")[1].split('href="')[1].split('"')[0])
    query = parse_qs(urlsplit(link).query)["q"][0]
    assert urlsplit(link).path == "/tasks/bulk/retry/"
    assert parse_query(query).places == (PLACE,)
    assert "data-retry-all" not in text_of(as_("viewer"), "/tasks/errors/")


def test_the_most_of_the_last_day_come_first() -> None:
    """However many there were before."""
    week = int(time.time()) - 7 * 86_400
    seen(error="Old", failed=900, retried=0, first_at=week, last_at=week)
    ErrorRollup.objects.filter(error="Old").update(start=week // 3600 * 3600)
    seen(error="Few", failed=1, retried=0)
    seen(error="Many", failed=50, retried=5)
    groups = statistics.errors()
    assert groups is not None
    assert [it.error for it in groups] == ["Many", "Few", "Old"]
    assert [it.lately for it in groups] == [55, 1, 0]


# --- queues ---------------------------------------------------------------------------------------


def test_a_queue_with_its_facts(as_: As, row: Row) -> None:
    """Depth, age, rate, running, and who has paused it."""
    row("pending", age=90)
    row("running", queue="high")
    counted(queue="low", completed=50)
    for start in TaskRollup.objects.filter(span=60):
        start.start -= 120
        start.save()
    boss = User.objects.create(username="grace")
    queues.pause("low", by=str(boss.pk))
    text = text_of(as_("viewer"), "/tasks/queues/")
    rows = {it.split('"', 1)[0]: it for it in text.split('data-queue="')[1:]}
    assert "1 m 30 s" in rows["default"]
    assert "paused" in rows["low"]
    assert "by grace" in rows["low"]
    assert ">10<" in rows["low"]  # fifty in five minutes
    assert "open" in rows["high"]
    assert "<button" not in text.split('id="queues"')[1].split("</table>")[0]


def test_a_queue_with_a_rate_says_so(as_: As, settings: Any) -> None:
    """It looks open and slow otherwise."""
    configured = settings.RAIL_DJANGO_GRAPHQL
    limits = {"mail": {"rate": "10/s"}, "default": {}}
    settings.RAIL_DJANGO_GRAPHQL = {
        **configured,
        "task_settings": {**configured["task_settings"], "queues": limits},
    }
    rows = text_of(as_("viewer"), "/tasks/queues/").split('data-queue="')
    (mail,) = (it for it in rows if it.startswith("mail"))
    (default,) = (it for it in rows if it.startswith("default"))
    assert "at most 10/s in all processes together" in mail
    assert "in all processes together" not in default


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_pause(as_: As, kind: str) -> None:
    """Those who may change tasks; the audit names them."""
    client = as_(kind)
    client.get("/tasks/queues/")
    answer = client.post(
        "/tasks/queues/pause/?queue=low", headers={"X-CSRFToken": token_of(client)}
    )
    may = kind in {"operator", "superuser"}
    assert {it.name for it in queues.list() if it.paused} == ({"low"} if may else set())
    if not may:
        assert answer.status_code == (302 if kind == "anonymous" else 403)
        assert not TaskEvent.objects.exists()
        return
    user = User.objects.get(username=kind)
    event = TaskEvent.objects.get()
    assert (event.name, event.actor, event.reason) == ("low", str(user.pk), "queue_paused")
    client.post("/tasks/queues/resume/?queue=low", headers={"X-CSRFToken": token_of(client)})
    assert not any(it.paused for it in queues.list())


def test_an_unknown_queue_is_refused_in_words(as_: As) -> None:
    """With the names of those that there are; a NUL is no queue either."""
    client = as_("superuser")
    client.get("/tasks/queues/")
    for name in ("nope", "%00", ""):
        url = f"/tasks/queues/pause/?queue={name}"
        answer = client.post(url, headers={"X-CSRFToken": token_of(client)})
        assert answer.status_code in {400, 409}
        assert "Known are" in answer.content.decode()


def test_the_script_gets_the_table_anew(as_: As) -> None:
    """In one answer with what was done, in place of a redirect."""
    client = as_("superuser")
    client.get("/tasks/queues/")
    headers = {"X-CSRFToken": token_of(client), "HX-Request": "true"}
    text = client.post("/tasks/queues/pause/?queue=low", headers=headers).content.decode()
    assert "low is paused." in text
    assert 'id="queues"' in text
    assert 'data-action="resume"' in text
    again = client.post("/tasks/queues/pause/?queue=low", headers=headers).content.decode()
    assert "low is paused already." in again


# --- processes ------------------------------------------------------------------------------------


def runtime(place: str, **fields: Any) -> TaskRuntime:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "id": new_id(), "names": ["add"], "started_at": now - timedelta(hours=1),
        "renewed_at": now, "lapses_at": now + timedelta(minutes=1),
    }  # fmt: skip
    return TaskRuntime.objects.create(place=place, **(values | fields))


def test_processes_alive_silent_lost_and_ended(as_: As, row: Row) -> None:
    """With what they run, and what they said with their lease."""
    now = datetime.now(UTC)
    alive = runtime("a 1", role="uvicorn", lag_seconds=1.5, leaked=2)
    runtime(
        "b 2", lapses_at=now - timedelta(seconds=5),
        started_at=now - timedelta(seconds=100), renewed_at=now - timedelta(seconds=40),
    )  # fmt: skip
    lost = runtime("c 3", dead=True)
    runtime("d 4", dead=True, ended_at=now)
    mine = row("running", name="mine", runtime_id=alive.id)
    row("running", runtime_id=lost.id)
    text = text_of(as_("viewer"), "/tasks/processes/")
    parts = {
        it.split('data-state="', 1)[1].split('"')[0]: it for it in text.split("data-process=")[1:]
    }
    assert set(parts) == {"alive", "silent", "lost", "ended"}
    for part in ("a 1", "uvicorn", "1.5 s", ">2</dd>", f"/tasks/{mine.id}/", "mine"):
        assert part in parts["alive"]
    assert "b 2" in parts["silent"]
    assert "up 1 m" in parts["silent"]  # to its last sign of life
    assert "Runs nothing now" in parts["silent"]
    assert "c 3" in parts["lost"]
    assert '<td class="number">1</td>' in parts["lost"]
    assert '<td class="number">0</td>' in parts["ended"]


def test_many_running_tasks_are_counted_and_some_are_named(as_: As, row: Row) -> None:
    """The page stays small beside thousands."""
    alive = runtime("a 1")
    for _ in range(205):
        row("running", runtime_id=alive.id)
    text = text_of(as_("viewer"), "/tasks/processes/")
    assert ">205</dd>" in text
    assert "and 5 more" in text


# --- schedules ------------------------------------------------------------------------------------


@pytest.fixture
def nightly() -> str:
    @task(name="nightly", cron="0 3 * * *")
    def body() -> str:
        """Sum up."""
        return "done"

    return "nightly"


def test_a_schedule_with_its_ticks(as_: As, row: Row, nightly: str) -> None:
    """Expression, next and last run, and what became of that."""
    client = as_("viewer")
    text = text_of(client, "/tasks/schedules/")
    assert "0 3 * * *" in text
    assert "not yet" in text
    last = row("failed", name=nightly, error="no disk")
    at = datetime.now(UTC) - timedelta(hours=5)
    TaskSchedule.objects.create(name=nightly, last_tick=at, last_execution_id=last.id)
    text = text_of(client, "/tasks/schedules/")
    assert f"/tasks/{last.id}/" in text
    assert "no disk" in text
    assert at.isoformat() in text
    (shown,) = schedules.schedules("default")
    assert shown["next_at"] > datetime.now(UTC)
    last.delete()
    assert "its task has expired" in text_of(client, "/tasks/schedules/")
    assert 'data-action="run"' not in text


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_run_one_now(as_: As, nightly: str, kind: str) -> None:
    """Those who may change tasks; the schedule's next tick stays."""
    client = as_(kind)
    client.get("/tasks/schedules/")
    headers = {"X-CSRFToken": token_of(client)}
    answer = client.post(f"/tasks/schedules/run/?name={nightly}", headers=headers)
    may = kind in {"operator", "superuser"}
    ran = list(TaskExecution.objects.filter(name=nightly))
    assert len(ran) == (1 if may else 0)
    assert not TaskSchedule.objects.exists()
    if may:
        assert answer.status_code == 302
        user = User.objects.get(username=kind)
        assert TaskEvent.objects.filter(actor=str(user.pk), execution_id=ran[0].id).exists()


@pytest.mark.parametrize("name", ["add", "gone", "%00"])
def test_only_schedules_are_run(as_: As, nightly: str, name: str) -> None:
    """Not any task without arguments."""
    client = as_("superuser")
    client.get("/tasks/schedules/")
    headers = {"X-CSRFToken": token_of(client)}
    answer = client.post(f"/tasks/schedules/run/?name={name}", headers=headers)
    assert answer.status_code == 404
    assert not TaskExecution.objects.exists()


# --- charts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", ["hour", "day", "week", "century"])
def test_charts_show_what_was_counted(as_: As, window: str) -> None:
    """As drawings, and as a table; an unknown window is an hour."""
    counted(completed=7, failed=2, wait_0=9, run_15=9)
    counted(queue="low", completed=1, run_0=1)
    text = text_of(as_("viewer"), f"/tasks/charts/?window={window}")
    assert text.count('<svg class="chart"') == 3
    assert "8 completed, 2 failed" in text
    assert ">7</td>" in text
    narrowed = text_of(as_("operator"), f"/tasks/charts/?window={window}&queue=low")
    assert "1 completed" in narrowed
    assert "7 completed" not in narrowed


def test_charts_by_name(as_: As) -> None:
    """Each name leads to the queues of that task alone."""
    counted(name="one", completed=3)
    counted(name="two", completed=4)
    text = text_of(as_("viewer"), "/tasks/charts/?by=name")
    assert "name=one" in text
    assert "name=two" in text
    assert text.index("name=two") < text.index("name=one")  # the busiest first


# --- all of them ----------------------------------------------------------------------------------

PAGES = ("errors", "queues", "processes", "schedules", "charts")


@pytest.mark.parametrize("page", PAGES)
def test_without_anything_a_page_says_what_to_do(as_: As, page: str) -> None:
    """An empty state, not an empty table."""
    text = text_of(as_("superuser"), f"/tasks/{page}/")
    assert page == "queues" or 'class="empty"' in text


@pytest.mark.parametrize("page", PAGES)
def test_texts_stay_texts(as_: As, row: Row, page: str, nightly: str) -> None:
    """Whatever is in names, errors, places, queues and processes."""
    failed = row(
        "failed", name=EVIL, error=EVIL, error_type=EVIL, error_place=EVIL, queue=EVIL[:90]
    )
    row("pending", queue=EVIL[:90], name=EVIL)
    alive = runtime(EVIL, role=EVIL[:90], names=[EVIL])
    row("running", name=EVIL, runtime_id=alive.id, queue=EVIL[:90])
    runtime(EVIL, role=EVIL[:90], dead=True)
    queues.pause(EVIL[:90], by=EVIL)
    TaskSchedule.objects.create(
        name=nightly, last_tick=datetime.now(UTC), last_execution_id=failed.id
    )
    seen(name=EVIL, error=EVIL, place=EVIL, example_id=failed.id)
    counted(name=EVIL, queue=EVIL[:90], completed=1)
    client = as_("superuser")
    for query in ("", f"?by=name&queue={EVIL[:90]}", f"?by=queue&name={EVIL}&window={EVIL}"):
        text = text_of(client, f"/tasks/{page}/{query}")
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "style=" not in text
        if not query:
            assert "&lt;script&gt;" in text


def test_statistics_off_is_said(as_: As, settings: Any) -> None:
    """On the pages that would stand still."""
    configured = settings.RAIL_DJANGO_GRAPHQL
    settings.RAIL_DJANGO_GRAPHQL = {
        **configured,
        "task_settings": {**configured["task_settings"], "statistics_enabled": False},
    }
    client = as_("viewer")
    for page in ("errors", "charts"):
        assert "statistics_enabled" in text_of(client, f"/tasks/{page}/")
