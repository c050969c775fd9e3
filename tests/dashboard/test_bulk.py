"""Bulk retry and cancel of a filter: what is counted, confirmed, done, and not done twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from rail_async_tasks import queues, service, task
from rail_async_tasks.access import SYSTEM, Viewer
from rail_async_tasks.dashboard import bulk, bulk_choice, bulk_tasks
from rail_async_tasks.dashboard.bulk_choice import CANCEL, RETRY, choose, count
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.rows import clock
from rail_async_tasks.models import TaskEvent, TaskExecution
from rail_async_tasks.states import FINAL
from tests.support.waiting import TIMEOUT, wait_for

pytestmark = pytest.mark.turns("database")

BACKENDS = ("thread", "sync")
RAN: list[int] = []


@task(name="bulk.again", max_retries=0)
def again(n: int = 0) -> int:
    RAN.append(n)
    return n


@task(name="bulk.only", unique=True, max_retries=0)
def only(n: int = 0) -> int:
    return n


@pytest.fixture(autouse=True)
def running(database: Any, settings: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    """The backend of the test, on either database, with the audit."""
    use(settings, getattr(request, "param", "thread"))
    RAN.clear()
    yield
    host.stop()


def use(settings: Any, backend: str = "thread", **more: Any) -> None:
    task_settings = {"backend": backend, "audit_enabled": True, "retry_delay": 0.01, **more}
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": task_settings}


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def browser_of(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


def store(status: str = "failed", *, age: float = 60, **fields: Any) -> TaskExecution:
    """Stores a task in a state, created and, where it is final, ended `age` seconds ago."""
    at = datetime.now(UTC) - timedelta(seconds=age)
    final, ran = status in FINAL, status != "pending"
    defaults: dict[str, Any] = {
        "name": "bulk.again", "queue": "default", "created_at": at, "updated_at": at,
        "attempts": int(ran), "started_at": at if ran else None,
        "completed_at": at if final else None,
        "runtime_id": new_id() if status == "running" else None,
        "token": new_id() if status == "running" else None,
        # Waiting rows of these tests must not start.
        "run_after": None if final or ran else datetime.now(UTC) + timedelta(days=1),
    }  # fmt: skip
    return TaskExecution.objects.create(status=status, **{**defaults, **fields})


def children(row: TaskExecution) -> list[TaskExecution]:
    return list(TaskExecution.objects.filter(parent_id=row.id))


def change(user: User, kind: Any, q: str, before: datetime | None = None) -> Any:
    """Makes a bulk change as that user; returns the ended task."""
    viewer = Viewer.for_user(user)
    started = bulk.start(viewer, kind, q, before or clock("default"))
    return ended(started.id)


def ended(task_id: Any) -> Any:
    return wait_for(lambda: (it := service.get(SYSTEM, task_id)).is_final and it, "the bulk task")


def confirm(client: Client, verb: str, q: str, typed: str | None = None) -> Any:
    """Opens the page, types the number that it shows, sends the form."""
    page = client.get(f"/tasks/bulk/{verb}/", {"q": q})
    assert page.status_code == 200, page.content.decode()
    context = dict.fromkeys(("before", "number"), "")
    for name in context:
        found = page.content.decode().split(f'name="{name}" value="')[1]
        context[name] = found.split('"')[0]
    typed = context["number"] if typed is None else typed
    return client.post(f"/tasks/bulk/{verb}/", {"q": q, **context, "confirm": typed})


def task_of(answer: Any) -> Any:
    """Returns the task to whose page the answer leads, once it has ended."""
    assert answer.status_code == 302, answer.content.decode()
    return ended(answer["Location"].split("/tasks/")[1].split("/")[0])


@pytest.mark.parametrize("running", BACKENDS, indirect=True)
def test_a_confirmed_retry_retries_what_fits(running: None, browser_of: Client, root: User) -> None:
    """Failed tasks alone, as new ones, with their owner and the operator in the audit."""
    rows = [store(arguments={"n": n}, owner_id="7") for n in range(3)]
    others = [store("completed"), store("cancelled"), store(queue="low"), store("pending")]
    done = task_of(confirm(browser_of, "retry", "queue:default"))
    assert (done.name, done.status, done.owner_id) == (
        "rail_async_tasks.bulk_retry", "completed", str(root.pk),
    )  # fmt: skip
    assert done.result == {"changed": 3, "passed_over": 0, "refused": 0, "reasons": []}
    assert done.progress_message == "3 of 3 tasks retried"
    for row in rows:
        (child,) = children(row)
        assert child.owner_id == "7"
        created = TaskEvent.objects.get(execution_id=child.id, reason="created")
        assert created.actor == str(root.pk)
        ended(child.id)
    assert sorted(RAN) == [0, 1, 2]
    assert not any(children(it) for it in others)


@pytest.mark.parametrize("running", BACKENDS, indirect=True)
def test_a_confirmed_cancel_cancels_what_fits(
    running: None, browser_of: Client, root: User
) -> None:
    """Every unfinished task, once, in the operator's name."""
    rows = [store("pending") for _ in range(3)]
    ended_before = store("completed")
    done = task_of(confirm(browser_of, "cancel", "name:again", "cancel"))
    assert done.result["changed"] == 3
    for row in rows:
        row.refresh_from_db()
        assert row.status == "cancelled"
        event = TaskEvent.objects.get(execution_id=row.id)
        assert (event.actor, event.reason) == (str(root.pk), "cancelled")
    ended_before.refresh_from_db()
    assert ended_before.status == "completed"


def test_a_second_run_changes_nothing_twice(root: User) -> None:
    """Not even where the first one's time is given again."""
    rows, before = [store() for _ in range(4)], clock("default")
    assert change(root, RETRY, "", before).result["changed"] == 4
    again_ = change(root, RETRY, "state:failed", before)
    assert (again_.result["changed"], again_.result["passed_over"]) == (0, 4)
    waiting = store("pending")
    assert change(root, CANCEL, "name:again state:pending").result["changed"] == 1
    assert change(root, CANCEL, "name:again state:pending").result["changed"] == 0
    assert [len(children(it)) for it in rows] == [1] * 4
    assert TaskEvent.objects.filter(execution_id=waiting.id).count() == 1


def test_two_runs_at_once_retry_each_task_once(root: User) -> None:
    """The look for a retry and the retry are one transaction, under the lock of the row."""
    rows = [store() for _ in range(12)]
    viewer, errors, start = Viewer.for_user(root), [], threading.Barrier(3)
    host.runtime_in_thread()

    def run() -> None:
        start.wait()
        for row in rows:
            try:
                bulk_tasks._retry("default", viewer, row.id)
            except bulk_tasks._PassedOver:
                pass
            except Exception as error:  # noqa: BLE001 - shown by the assertion
                errors.append(error)
        from django.db import connection

        connection.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    assert errors == []
    assert [len(children(it)) for it in rows] == [1] * 12


def test_what_came_after_the_confirmation_is_left_alone(root: User) -> None:
    """Tasks that were created later, and for a retry those that failed later."""
    old = store()
    before = clock("default")
    failed_since = store(completed_at=datetime.now(UTC) + timedelta(hours=1))
    new = store(age=-3600)
    assert change(root, RETRY, "", before).result["changed"] == 1
    assert [len(children(it)) for it in (old, failed_since, new)] == [1, 0, 0]
    waiting, created_since = store("pending"), store("pending", age=-3600)
    assert change(root, CANCEL, "name:again", before).result["changed"] == 1
    statuses = [TaskExecution.objects.get(id=it.id).status for it in (waiting, created_since)]
    assert statuses == ["cancelled", "pending"]


def test_ages_count_from_the_confirmation(root: User) -> None:
    """A task does not fall out of `age:<1h` while the change waits for its turn."""
    row = store(age=3500)
    before = clock("default")
    choice = choose("default", RETRY, "age:<1h", before - timedelta(seconds=300))
    assert [it.id for page in choice.pages() for it in page] == [row.id]
    store(age=5000)
    assert sum(len(page) for page in choice.pages()) == 1
    assert choice.total() == 1


def test_a_state_that_has_changed_meanwhile_is_passed_over(root: User) -> None:
    """A task that ended before its turn is not cancelled, and nothing fails."""
    row = store("pending")
    choice = choose("default", CANCEL, "", clock("default"))
    page = next(choice.pages())
    TaskExecution.objects.filter(id=row.id).update(
        status="completed", completed_at=datetime.now(UTC), run_after=None
    )
    assert [it.id for it in page] == [row.id]
    done = change(root, CANCEL, "")
    assert (done.status, done.result["changed"]) == ("completed", 0)


def test_refusals_are_counted_and_stop_nothing(root: User) -> None:
    """A task whose code is gone, and arguments that fit no more; the others are retried."""
    gone, wrong, fine = store(name="bulk.gone"), store(arguments={"m": 1}), store()
    done = change(root, RETRY, "")
    assert (done.result["changed"], done.result["refused"]) == (1, 2)
    reasons = {it["message"]: it["some"] for it in done.result["reasons"]}
    assert reasons["The task bulk.gone does not exist any more."] == [str(gone.id)]
    assert [str(wrong.id)] in reasons.values()
    assert len(children(fine)) == 1


def test_the_limits_of_starts_hold(root: User, settings: Any) -> None:
    """A retry waits until there is room, and every task gets its turn."""
    use(settings, max_pending=1)
    rows = [store(arguments={"n": n}) for n in range(5)]
    done = change(root, RETRY, "")
    assert done.result["changed"] == 5
    assert all(len(children(it)) == 1 for it in rows)


def test_a_bulk_change_leaves_bulk_changes_alone(root: User) -> None:
    """One that failed fits a retry, one that waits a cancel; both would change things unasked."""
    arguments = {"q": "", "before": clock("default").isoformat()}
    failed = store("failed", name="rail_async_tasks.bulk_retry", arguments=arguments)
    waiting = store("pending", name="rail_async_tasks.bulk_cancel", arguments=arguments)
    assert change(root, RETRY, "").result["changed"] == 0
    assert change(root, CANCEL, "").result["changed"] == 0
    assert children(failed) == []
    assert TaskExecution.objects.get(id=waiting.id).status == "pending"


@pytest.mark.parametrize("kind", ["no right", "no staff", "no user"])
def test_only_who_may_change_every_task_can_make_it_run(kind: str) -> None:
    """However it was started: also by a retry of another user's over GraphQL or REST."""
    row = store()
    user = User.objects.create_user(kind, is_staff=kind == "no right")
    user.user_permissions.add(Permission.objects.get(codename="view_taskexecution"))
    owner = None if kind == "no user" else user
    handle = bulk_tasks.bulk_retry.using(owner=owner).enqueue(q="", before=clock("default"))
    done = ended(handle.id)
    assert (done.status, done.error_type) == ("failed", "Fail")
    assert "change_taskexecution" in done.error
    assert children(row) == []


def test_a_right_that_is_taken_away_stops_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the next page of tasks; what was changed stays changed, and the error says so."""
    monkeypatch.setattr(bulk_choice, "PAGE", 2)
    user = User.objects.create_user("op", is_staff=True)
    for code in ("view", "change"):
        user.user_permissions.add(Permission.objects.get(codename=f"{code}_taskexecution"))
    rows = [store() for _ in range(6)]
    retry, done_ones = bulk_tasks._retry, []

    def watched(*args: Any) -> None:
        retry(*args)
        done_ones.append(args)
        User.objects.filter(pk=user.pk).update(is_staff=False)

    monkeypatch.setattr(bulk_tasks, "_retry", watched)
    done = change(user, RETRY, "")
    assert (done.status, done.error_type) == ("failed", "Fail")
    assert len(done_ones) == 2
    assert sum(len(children(it)) for it in rows) == 2


def test_a_cancel_of_the_bulk_task_stops_it(root: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tasks."""
    rows, retry = [store() for _ in range(6)], bulk_tasks._retry
    begun, go = threading.Event(), threading.Event()

    def slow(*args: Any) -> None:
        retry(*args)
        begun.set()
        assert go.wait(TIMEOUT)

    monkeypatch.setattr(bulk_tasks, "_retry", slow)
    started = bulk.start(Viewer.for_user(root), RETRY, "", clock("default"))
    assert begun.wait(TIMEOUT)
    service.cancel(SYSTEM, started.id)
    go.set()
    assert ended(started.id).status == "cancelled"
    assert sum(len(children(it)) for it in rows) < 6


def test_it_waits_in_no_paused_queue(root: User) -> None:
    """The default queue, and another one while that is paused to be mended."""
    viewer = Viewer.for_user(root)
    assert bulk.start(viewer, RETRY, "", clock("default")).queue == "default"
    queues.pause("default")
    assert bulk.start(viewer, RETRY, "", clock("default")).queue == "high"


def test_one_confirmation_is_one_task(root: User) -> None:
    """A form that is sent twice, by a double click, starts it once."""
    queues.pause("default")
    queues.pause("high")
    queues.pause("low")
    viewer, before = Viewer.for_user(root), clock("default")
    first, second = (bulk.start(viewer, RETRY, "state:failed", before) for _ in range(2))
    assert first.id == second.id
    assert bulk.start(viewer, RETRY, "state:cancelled", before).id != first.id


# --- the page -------------------------------------------------------------------------------------


def test_the_page_counts_and_changes_nothing(browser_of: Client) -> None:
    """What would be changed, and what is passed over as it has a retry."""
    rows = [store() for _ in range(4)]
    store("completed", parent_id=rows[0].id)
    html = browser_of.get("/tasks/bulk/retry/", {"q": "state:failed"}).content.decode()
    assert 'data-count="3"' in html
    assert "1 more has a retry already" in html
    assert TaskExecution.objects.count() == 5


def test_a_count_is_bounded(monkeypatch: pytest.MonkeyPatch, browser_of: Client) -> None:
    """By a number and by a time; the word confirms what has no number."""
    monkeypatch.setattr(bulk_choice, "MOST_COUNTED", 3)
    rows = [store() for _ in range(5)]
    html = browser_of.get("/tasks/bulk/retry/").content.decode()
    assert "more than 3" in html
    found = count(choose("default", RETRY, "", clock("default")), seconds=-1)
    assert (found.exact, found.number <= len(rows)) == (False, True)
    answer = confirm(browser_of, "retry", "", "retry")
    assert task_of(answer).result["changed"] == 5


@pytest.mark.parametrize("typed", ["", "2", "yes", "RETRY!", "0"])
def test_a_wrong_confirmation_changes_nothing(browser_of: Client, typed: str) -> None:
    """It is asked for again, with what to type."""
    row = store()
    answer = confirm(browser_of, "retry", "", typed)
    assert answer.status_code == 422
    assert "To confirm, type 1 or retry." in answer.content.decode()
    assert children(row) == []


@pytest.mark.parametrize(
    ("verb", "q", "message"),
    [
        ("cancel", "state:failed", "A failed task can&#x27;t be cancelled"),
        ("retry", "state:running", "A running task can&#x27;t be retried"),
        ("retry", "sate:x", "There is no qualifier sate:"),
    ],
)
def test_a_filter_that_cannot_be(browser_of: Client, verb: str, q: str, message: str) -> None:
    """The page says what to write."""
    answer = browser_of.get(f"/tasks/bulk/{verb}/", {"q": q})
    assert answer.status_code == 422
    assert message in answer.content.decode()
    posted = {"q": q, "confirm": verb, "before": clock("default").isoformat(), "number": ""}
    assert browser_of.post(f"/tasks/bulk/{verb}/", posted).status_code == 422


@pytest.mark.parametrize("before", ["", "yesterday", "2026-01-16T12:00:00", "9999-01-01T00:00Z"])
def test_a_time_that_no_page_has_shown_is_refused(browser_of: Client, before: str) -> None:
    """A later one would change tasks that the page did not count."""
    row = store()
    posted = {"q": "", "confirm": "retry", "before": before, "number": "1"}
    assert browser_of.post("/tasks/bulk/retry/", posted).status_code == 422
    assert children(row) == []


def test_nothing_fits(browser_of: Client) -> None:
    """An empty page says what to do next."""
    html = browser_of.get("/tasks/bulk/cancel/", {"q": "queue:none"}).content.decode()
    assert "No task would be cancelled" in html
    assert "<button data-action=" not in html


@pytest.mark.parametrize("codes", [(), ("view",), ("change",)])
def test_who_may_not_change_gets_no_form(codes: tuple[str, ...]) -> None:
    """One who may look sees the number, and no form; no form of their own starts anything."""
    row, client = store(), Client()
    user = User.objects.create_user("op", is_staff=True)
    for code in codes:
        user.user_permissions.add(Permission.objects.get(codename=f"{code}_taskexecution"))
    client.force_login(user)
    seen = client.get("/tasks/bulk/retry/")
    assert seen.status_code == (200 if codes == ("view",) else 403)
    assert 'name="confirm"' not in seen.content.decode()
    posted = {"confirm": "retry", "before": clock("default").isoformat()}
    assert client.post("/tasks/bulk/retry/", posted).status_code == 403
    assert children(row) == []
    assert TaskExecution.objects.count() == 1


def test_a_bulk_change_needs_a_token(root: User) -> None:
    """As every action."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(root)
    posted = {"confirm": "retry", "before": clock("default").isoformat()}
    assert client.post("/tasks/bulk/retry/", posted).status_code == 403
    assert TaskExecution.objects.count() == 0
