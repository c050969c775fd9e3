"""`tasks cancel` and `tasks retry`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.test import override_settings

from rail_async_tasks import Task, task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import submission
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskEvent, TaskExecution
from tests.cli.conftest import Said

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.turns("database")]

Tasks = Callable[..., Said]
Row = Callable[..., TaskExecution]

RAN: list[int] = []


@pytest.fixture(autouse=True)
def declared() -> Task[..., Any]:
    """The task of the rows. It must not run in the command."""
    RAN.clear()

    @task(name="cli.row")
    def cli_row(n: int = 1) -> None:
        RAN.append(n)

    return cli_row


def status(row: TaskExecution) -> str:
    return TaskExecution.objects.get(id=row.id).status


def test_tasks_are_cancelled_one_by_one(tasks: Tasks, row: Row) -> None:
    """A line each: a waiting one is cancelled, a running one asked to end."""
    waiting, running, ended = row(), row("running"), row("completed")
    said = tasks("cancel", waiting.id, running.id, ended.id)
    assert said.code == 1
    assert said.out.splitlines() == [
        f"{waiting.id}  cancelled",
        f"{running.id}  cancel requested",
        f"{ended.id}  not cancelled, as it has ended",
        "2 tasks cancelled, 1 not.",
    ]
    assert [status(it) for it in (waiting, running, ended)] == ["cancelled", "running", "completed"]
    assert TaskExecution.objects.get(id=running.id).cancel_requested


def test_an_unknown_id_changes_nothing(tasks: Tasks, row: Row) -> None:
    """Also of the tasks that were named before it."""
    waiting = row()
    assert tasks("cancel", waiting.id, new_id()).code == 2
    assert status(waiting) == "pending"


def test_a_filter_needs_a_confirmation(tasks: Tasks, row: Row) -> None:
    """Without `--yes` the number is written, and nothing is done."""
    rows = [row(queue="low") for _ in range(3)]
    other = row()
    said = tasks("cancel", "--queue", "low")
    assert (said.code, said.out) == (
        2, "3 tasks would be cancelled. Nothing was done; add --yes.\n",
    )  # fmt: skip
    assert {status(it) for it in rows} == {"pending"}
    assert tasks("cancel", "--queue", "low", "--yes").code == 0
    assert {status(it) for it in rows} == {"cancelled"}
    assert status(other) == "pending"


def test_a_limit_bounds_a_filter(tasks: Tasks, row: Row) -> None:
    """The newest ones are changed."""
    rows = [row() for _ in range(3)]
    assert tasks("cancel", "--name", "cli.row", "--limit", 2, "--yes").code == 0
    assert [status(it) for it in rows] == ["pending", "cancelled", "cancelled"]


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_ids_or_a_filter(tasks: Tasks, row: Row, verb: str) -> None:
    """Neither, or both, is refused; so is a state in which it can't be done."""
    waiting = row()
    assert tasks(verb).code == 2
    assert tasks(verb, "--yes").code == 2
    assert tasks(verb, waiting.id, "--name", "cli.row").code == 2
    wrong = "completed" if verb == "cancel" else "running"
    assert "leave out that --status" in tasks(verb, "--status", wrong, "--yes").error


def test_a_retry_waits_for_a_process(tasks: Tasks, row: Row) -> None:
    """It is stored, and no runtime starts here."""
    before = threading.active_count()
    failed = row("failed", arguments={"n": 5}, owner_id="7", queue="low", priority=3)
    said = tasks("retry", failed.id)
    assert said.code == 0
    new = TaskExecution.objects.get(parent_id=failed.id)
    assert said.out.splitlines() == [
        f"{failed.id}  retried as {new.id}",
        "No process that runs tasks is alive: tasks wait until one starts.",
    ]
    assert (new.status, new.arguments, new.owner_id, new.queue, new.priority) == (
        "pending", {"n": 5}, "7", "low", 3,
    )  # fmt: skip
    assert RAN == []
    assert host.hosted() is None
    assert submission.replacement() is None
    assert threading.active_count() <= before + 1


def test_a_filtered_retry_can_be_repeated(tasks: Tasks, row: Row) -> None:
    """It chooses failed tasks, and passes over those that were retried before."""
    failed = [row("failed") for _ in range(3)]
    row("completed")
    tasks("retry", failed[0].id)
    said = tasks("retry", "--name", "cli.row", "--yes")
    assert said.code == 0
    assert TaskExecution.objects.filter(status="pending").count() == 3
    assert tasks("retry", "--name", "cli.row").out.startswith("0 tasks would be retried.")


def test_a_group_of_errors_is_retried_by_class_and_place(tasks: Tasks, row: Row) -> None:
    """As `errors` shows it: the same class from another place is another group."""
    error = {"error_type": "KeyError", "name": "cli.row"}
    here = row("failed", error_place="shop/tasks.py:1 in a", **error)
    there = row("failed", error_place="shop/tasks.py:2 in b", **error)
    nowhere = row("failed", error_place=None, **error)
    row("completed")
    for place, wanted in (("shop/tasks.py:1 in a", here), ("none", nowhere)):
        said = tasks("retry", "--error", "KeyError", "--place", place, "--yes")
        assert said.code == 0
        parents = TaskExecution.objects.exclude(parent_id=None).order_by("-id")
        assert parents[0].parent_id == wanted.id
    assert TaskExecution.objects.exclude(parent_id=None).count() == 2
    assert not TaskExecution.objects.filter(parent_id=there.id).exists()


def test_more_tasks_than_a_page(tasks: Tasks, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once."""
    monkeypatch.setattr("rail_async_tasks.cli.filters.PAGE", 2)
    failed = {row("failed").id for _ in range(5)}
    assert tasks("retry", "--status", "failed", "--yes").code == 0
    parents = TaskExecution.objects.filter(status="pending").values_list("parent_id", flat=True)
    assert sorted(parents) == sorted(failed)


def test_what_can_not_be_retried_is_named(tasks: Tasks, row: Row) -> None:
    """And the others are retried."""
    unknown, running, failed = row("failed", name="gone"), row("running"), row("failed")
    said = tasks("retry", unknown.id, running.id, failed.id)
    lines = said.out.splitlines()
    assert said.code == 1
    assert "gone does not exist any more" in lines[0]
    assert lines[1].endswith("not retried, as it has not ended")
    assert "retried as" in lines[2]


def test_changes_as_json(tasks: Tasks, row: Row) -> None:
    """One document."""
    waiting, ended = row(), row("completed")
    first, second = tasks("cancel", waiting.id, ended.id, "--json").json["results"]
    assert (first["id"], first["done"], first["outcome"]) == (str(waiting.id), True, "cancelled")
    assert first["task"]["status"] == "cancelled"
    assert (second["done"], second["task"]) == (False, None)


def test_the_audit_names_the_operator(
    tasks: Tasks, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`cli:` and the user's name."""
    monkeypatch.setenv("LOGNAME", "ann")
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": {"audit_enabled": True}}):
        tasks("cancel", row().id)
        tasks("retry", row("failed").id)
    assert set(TaskEvent.objects.values_list("to_status", "actor")) == {
        ("cancelled", "cli:ann"), ("pending", "cli:ann"),
    }  # fmt: skip


def test_a_user_without_a_name(tasks: Tasks, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: the id stands for it."""

    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", no_name)
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": {"audit_enabled": True}}):
        assert tasks("cancel", row().id).code == 0
    (actor,) = TaskEvent.objects.values_list("actor", flat=True)
    assert actor is not None
    assert actor.removeprefix("cli:").isdecimal()


def test_under_sync_nothing_is_retried(tasks: Tasks, row: Row) -> None:
    """It would run in the command, or never."""
    failed = row("failed")
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": {"backend": "sync"}}):
        said = tasks("retry", failed.id)
    assert said.code == 4
    assert '"sync"' in said.error
    assert TaskExecution.objects.count() == 1
    assert RAN == []


def test_where_tasks_are_disabled(tasks: Tasks, row: Row) -> None:
    """The refusal of every edge; reads go on."""
    failed = row("failed")
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": {"enabled": False}}):
        assert "Tasks are disabled" in tasks("retry", failed.id).out
        assert str(failed.id) in tasks("list").out
