"""The tools under pytest-django, as a project uses them. Run by `tests/testing`."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, transaction

from rail_async_tasks import InvalidArguments, TaskFailed, TaskNotFound, WouldWaitForever
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.testing import RailTasks, run_task
from tests.projects.library import tasks
from tests.projects.library.tasks import burn, check_card, give_back, insist, lend, remind, sweep
from tests.projects.library.threads import threads_of_runtimes

LEND = 'mutation { lend(title: "Emma", days: 3) { taskId status } }'


@pytest.fixture(autouse=True)
def nothing_has_leaked(db: None) -> None:
    """Whatever ran before, in whatever order."""
    assert not TaskExecution.objects.exists()
    assert not Group.objects.exists()
    assert threads_of_runtimes() == []


def post(client: Any, query: str) -> Any:
    return client.post("/graphql/", {"query": query}, content_type="application/json").json()


def test_a_mutation_enqueues(rail_tasks: RailTasks, client: Any) -> None:
    assert post(client, LEND)["data"]["lend"]["status"] == "pending"
    handle = rail_tasks.assert_enqueued(lend, title="Emma", days=3)
    assert (handle.arguments["days"], handle.status) == (3, "pending")
    assert not Group.objects.exists()
    rail_tasks.assert_not_enqueued(give_back)
    (ran,) = rail_tasks.run()
    assert (ran.id, ran.status, ran.result()["by"]) == (handle.id, "completed", "AnonymousUser")
    assert Group.objects.get().name == "Emma"
    assert handle.refresh().snapshot.progress == 100


def test_enqueued(rail_tasks: RailTasks) -> None:
    """Oldest first, by task, and without what was rolled back."""
    lend.enqueue(title="a")
    remind.enqueue(title="b")
    lend.enqueue(title="c")
    with transaction.atomic():
        lend.enqueue(title="lost")
        transaction.set_rollback(True)
    assert [it.name for it in rail_tasks.enqueued()] == ["lend", "remind", "lend"]
    assert [it.arguments for it in rail_tasks.enqueued(lend)] == [{"title": "a"}, {"title": "c"}]
    assert [it.arguments for it in rail_tasks.enqueued("remind")] == [{"title": "b"}]


def test_what_the_assertions_say(rail_tasks: RailTasks) -> None:
    with pytest.raises(AssertionError, match=r"lend was not enqueued\. Nothing was enqueued"):
        rail_tasks.assert_enqueued(lend)
    rail_tasks.assert_not_enqueued()
    lend.enqueue(title="Emma")
    day = dt.date(2026, 1, 2)
    lend.using(owner=User.objects.create(username="ann")).enqueue(title="Persuasion", days=2)
    rail_tasks.assert_enqueued(lend, title="Emma", days=14)  # by its default
    rail_tasks.assert_enqueued(lend, fee=Decimal("0.50"), days=2)
    rail_tasks.assert_not_enqueued(lend, title="Evelina")
    with pytest.raises(AssertionError) as failed:
        rail_tasks.assert_enqueued(lend, title="Emma", days=15)
    assert str(failed.value).splitlines() == [
        "lend(title='Emma', days=15) was not enqueued. Enqueued in this test:",
        "  1. lend(title='Emma') pending",
        "  2. lend(title='Persuasion', days=2) pending",
    ]
    for assertion in (
        rail_tasks.assert_not_enqueued,
        lambda: rail_tasks.assert_not_enqueued(lend),
        lambda: rail_tasks.assert_not_enqueued(lend, title="Emma"),
    ):
        with pytest.raises(AssertionError, match=r"1\. lend"):
            assertion()
    with pytest.raises(TypeError, match="takes no argument 'titel'; it takes title, days, fee"):
        rail_tasks.assert_enqueued(lend, titel="Emma")
    with pytest.raises(TypeError, match="no task named 'lemd'"):
        rail_tasks.enqueued("lemd")
    with pytest.raises(TypeError, match="Give a task"):
        rail_tasks.run(object())
    check_card.enqueue(pin="1234", day=day)
    assert rail_tasks.assert_enqueued(check_card, pin="1234").arguments["day"] == day
    with pytest.raises(AssertionError) as failed:
        rail_tasks.assert_not_enqueued(check_card)
    assert "pin=<sensitive>" in str(failed.value)
    assert "1234" not in str(failed.value)


def test_retries_and_delays(rail_tasks: RailTasks) -> None:
    """Nothing is due before its time; a jitter does not make the time unknown."""
    handle = remind.enqueue(title="Emma")
    later = lend.using(delay=60).enqueue(title="later")
    (ran,) = rail_tasks.run()
    assert (ran.status, str(ran.__cause__)) == ("retrying", "no answer to call 1")
    assert rail_tasks.run() == []
    rail_tasks.advance(9)
    assert rail_tasks.run() == []
    rail_tasks.advance(1)
    assert [it.status for it in rail_tasks.run()] == ["retrying"]
    rail_tasks.advance(20)  # exponential
    assert [it.status for it in rail_tasks.run()] == ["completed"]
    assert (handle.result(), handle.__cause__, handle.snapshot.retry_count) == (3, None, 2)
    assert later.refresh().status == "pending"
    rail_tasks.advance(dt.timedelta(seconds=30))
    assert [it.id for it in rail_tasks.run(lend)] == [later.id]
    for wrong in (-1, "soon", None, float("nan")):
        with pytest.raises(ValueError, match="advance"):
            rail_tasks.advance(wrong)  # type: ignore[arg-type]


def test_retries_that_are_due(rail_tasks: RailTasks) -> None:
    handle = insist.enqueue()
    (ran,) = rail_tasks.run()
    assert (ran.id, ran.result(), ran.snapshot.attempts) == (handle.id, 3, 3)


def test_a_failure(rail_tasks: RailTasks) -> None:
    """The exception is at hand; what the body has written before stays, as in a server."""
    mine = burn.enqueue(title="Emma")
    (ran,) = rail_tasks.run()
    for handle in (mine, ran):
        assert isinstance(handle.__cause__, ValueError)
        with pytest.raises(TaskFailed, match="Emma does not burn") as failed:
            handle.result()
        assert failed.value.__cause__ is handle.__cause__
    assert Group.objects.get().name == "ashes of Emma"
    tasks.refuse.enqueue()
    (ran,) = rail_tasks.run(tasks.refuse)
    assert (ran.status, type(ran.__cause__).__name__) == ("failed", "Fail")
    tasks.not_json.enqueue()
    (ran,) = rail_tasks.run(tasks.not_json)
    assert (ran.snapshot.error_code, ran.__cause__) == ("result_not_serializable", None)


def test_a_body_that_breaks_its_transaction(rail_tasks: RailTasks) -> None:
    """The test's own goes on."""
    Group.objects.create(name="Emma")
    for begin in (lend.enqueue, tasks.bad_sql.enqueue):
        begin(title="Emma")
    ran = rail_tasks.run()
    assert [(it.status, type(it.__cause__).__name__) for it in ran] == [
        ("retrying", "IntegrityError"), ("retrying", "OperationalError" if
        connection.vendor == "sqlite" else "ProgrammingError"),
    ]  # fmt: skip
    assert Group.objects.count() == 1


def test_a_timeout(rail_tasks: RailTasks) -> None:
    tasks.dawdle.enqueue()
    (ran,) = rail_tasks.run()
    assert (ran.snapshot.error_code, type(ran.__cause__).__mro__[1]) == ("timeout", TimeoutError)


def test_a_failure_callback(rail_tasks: RailTasks, settings: Any) -> None:
    """Is called, though the test's transaction is never committed."""
    settings.RAIL_DJANGO_GRAPHQL = {
        "task_settings": {
            "on_failure": "callback",
            "failure_callback": "tests.projects.library.tasks.note_failure",
        }
    }
    tasks.failures.clear()
    burn.enqueue(title="Emma")
    rail_tasks.run()
    assert tasks.failures == ["burn: Emma does not burn"]


def test_only_one_task(rail_tasks: RailTasks) -> None:
    burn.enqueue(title="a")
    lend.enqueue(title="b")
    assert [it.name for it in rail_tasks.run(lend)] == ["lend"]
    assert [it.status for it in rail_tasks.enqueued()] == ["pending", "completed"]


@pytest.mark.parametrize("relay", [tasks.relay, tasks.relay_in_a_thread])
def test_a_body_that_waits_for_another(rail_tasks: RailTasks, relay: Any) -> None:
    """The awaited task runs meanwhile."""
    handle = relay.enqueue(title="Emma")
    ran = rail_tasks.run()
    assert handle.result() == "Emma", handle.__cause__
    assert [it.status for it in rail_tasks.enqueued()] == ["completed", "completed"]
    assert [it.name for it in ran] == [relay.name]


def test_a_task_without_end(rail_tasks: RailTasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rail_async_tasks.testing.attempts.MAX_ATTEMPTS", 20)
    tasks.again.enqueue()
    with pytest.raises(RuntimeError, match="made 20 attempts and more are due"):
        rail_tasks.run()


def test_a_result_before_the_run(rail_tasks: RailTasks) -> None:
    """It would never come: it says so at once."""
    handle = lend.enqueue(title="Emma")
    with pytest.raises(WouldWaitForever, match=r"lend.*is pending.*rail_tasks.run\(\)"):
        handle.result(60)
    rail_tasks.run()
    assert handle.result()["title"] == "Emma"


def test_a_cancel(rail_tasks: RailTasks) -> None:
    handle = lend.enqueue(title="Emma")
    handle.cancel()
    assert rail_tasks.run() == []
    assert handle.status == "cancelled"


def test_expiry(rail_tasks: RailTasks) -> None:
    handle = lend.enqueue(title="Emma")
    rail_tasks.run()
    rail_tasks.advance(86_000)
    assert handle.refresh().status == "completed"
    rail_tasks.advance(400)
    with pytest.raises(TaskNotFound):
        handle.refresh()
    assert [it.status for it in rail_tasks.enqueued(lend)] == ["completed"]


def test_schedules(rail_tasks: RailTasks) -> None:
    """Five minutes have one tick, whatever the time of day is."""
    rail_tasks.advance(299)
    rail_tasks.assert_not_enqueued()
    rail_tasks.advance(1)
    rail_tasks.assert_enqueued(sweep)
    rail_tasks.advance(600)
    assert len(rail_tasks.enqueued(sweep)) == 3
    assert [it.result() for it in rail_tasks.run(sweep)] == [0, 0, 0]
    with pytest.raises(ValueError, match="10000 ticks"):
        rail_tasks.advance(10**7)


def test_a_runtime_is_refused(rail_tasks: RailTasks) -> None:
    """Nothing starts tasks behind the test's back."""
    from rail_async_tasks.hosting import process

    with pytest.raises(RuntimeError, match="No task runtime starts in this test"):
        process.runtime_in_thread()


def test_one_body() -> None:
    run = run_task(lend, title="Emma", fee=Decimal("1.5"))
    assert run.result == {"title": "Emma", "days": 14, "by": "AnonymousUser"}
    assert run.progress == [(50, "Looking it up"), (100, None)]
    assert run.progress[0].message == "Looking it up"
    user = User(username="ann")
    assert run_task(lend, user, title="b").result["by"] == "ann"
    shelved = run_task(give_back, user=user, title="b")
    assert (shelved.result, shelved.progress[0]) == (1, (0, "Shelving"))
    assert run_task(check_card, pin="12", day=dt.date(2026, 1, 2)).result == "2 02"
    assert run_task(check_card, pin="12", day=dt.date(2026, 1, 2)).progress == []
    assert not TaskExecution.objects.exists()


def test_the_exceptions_of_one_body(rail_tasks: RailTasks) -> None:
    with pytest.raises(ConnectionError, match="call 1"):
        rail_tasks.run_task(remind, title="x")
    with pytest.raises(InvalidArguments, match="required"):
        run_task(lend)
    with pytest.raises(InvalidArguments, match="titel"):
        run_task(lend, title="x", titel="x")


@pytest.mark.parametrize("turn", range(2))
@pytest.mark.django_db(transaction=True)
def test_with_commits(rail_tasks: RailTasks, client: Any, turn: int) -> None:
    assert not connection.in_atomic_block
    with transaction.atomic():
        handle = lend.enqueue(title="Emma")
        with pytest.raises(WouldWaitForever):
            handle.result()
    post(client, LEND)
    assert len(rail_tasks.run()) == 2
    assert Group.objects.count() == 1  # a name is unique
    assert [it.status for it in rail_tasks.enqueued()] == ["completed", "retrying"]


def test_with_the_other_fixture(rail_tasks: RailTasks, transactional_db: None) -> None:
    assert not connection.in_atomic_block
    lend.enqueue(title="Emma")
    assert len(rail_tasks.run()) == 1


def test_against_a_live_server(rail_tasks: RailTasks, live_server: Any) -> None:
    """What its threads enqueue is held, too."""
    import httpx

    answer = httpx.post(f"{live_server.url}/graphql/", json={"query": LEND}).json()
    assert answer["data"]["lend"]["status"] == "pending"
    rail_tasks.assert_enqueued(lend, title="Emma")
    assert [it.status for it in rail_tasks.run()] == ["completed"]


@pytest.mark.django_db
def test_a_result_in_the_tests_transaction_without_the_tools() -> None:
    handle = lend.enqueue(title="Emma")
    with pytest.raises(WouldWaitForever, match=r"inside the transaction.*rail_tasks.run\(\)"):
        handle.result(60)
