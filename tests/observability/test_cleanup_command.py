"""`manage.py cleanup_tasks`."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings

from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import FINAL, UNFINISHED

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.turns("database")]


def row(status: str = "completed", *, days: float = 0, expired: bool = False) -> TaskExecution:
    """A row that ended so many days ago."""
    now = datetime.now(UTC)
    at = now - timedelta(days=days)
    final = status in FINAL
    running = status == "running"
    return TaskExecution.objects.create(
        name="c.row", status=status, queue="default", created_at=at, updated_at=at,
        completed_at=at if final else None,
        expires_at=now - timedelta(seconds=1) if expired else None,
        runtime_id=new_id() if running else None, token=new_id() if running else None,
        attempts=1 if running else 0,
    )  # fmt: skip


def run(*arguments: str, **options: Any) -> str:
    """Returns its output."""
    out = io.StringIO()
    call_command("cleanup_tasks", *arguments, stdout=out, **options)
    return out.getvalue().strip()


def left() -> set[Any]:
    return set(TaskExecution.objects.values_list("id", flat=True))


def test_old_and_expired_tasks_are_deleted() -> None:
    """By when they ended, and by their time; the number is printed."""
    row(days=8)
    row(days=1, expired=True)
    young, lasting = row(days=6.9), row()
    assert run("--days", "7") == "2 tasks deleted."
    assert left() == {young.id, lasting.id}
    assert run("--days", "7") == "0 tasks deleted."


@pytest.mark.parametrize("status", sorted(UNFINISHED))
def test_an_unfinished_task_is_never_deleted(status: str) -> None:
    """However old."""
    old = row(status, days=1000)
    assert run("--days", "0") == "0 tasks deleted."
    assert left() == {old.id}


def test_days_0_is_all_that_has_finished() -> None:
    """Also what ended a moment ago."""
    for status in sorted(FINAL):
        row(status)
    waiting = row("pending")
    assert run("--days", "0") == "3 tasks deleted."
    assert left() == {waiting.id}


def test_fractions_of_a_day() -> None:
    """An hour is 0.0417 of one."""
    row(days=0.05)
    young = row(days=0.03)
    assert run("--days", "0.0417") == "1 task deleted."
    assert left() == {young.id}


def test_only_some_statuses() -> None:
    """The filter holds for what is old and for what has expired."""
    row("failed", days=8)
    row("cancelled", expired=True)
    kept = {row("completed", days=8).id, row("completed", expired=True).id}
    assert run("--days", "7", "--status", "failed", "--status", "cancelled") == "2 tasks deleted."
    assert left() == kept


def test_a_dry_run_only_counts() -> None:
    """Nothing is deleted; a row that is old and has expired counts once."""
    row(days=8, expired=True)
    row(days=8)
    before = left()
    assert run("--days", "7", "--dry-run") == "2 tasks would be deleted."
    assert left() == before


def test_each_batch_is_a_transaction_of_its_own() -> None:
    """At most so many rows each, so that other writes do not wait long for them."""
    for _ in range(5):
        row(days=8)
    with CaptureQueriesContext(connection) as queries:
        assert run("--days", "7", "--batch-size", "2") == "5 tasks deleted."
    deletes = [it["sql"] for it in queries if it["sql"].startswith("DELETE")]
    commits = [it["sql"] for it in queries if it["sql"] == "COMMIT"]
    full = [it for it in deletes if "c.row" not in it]
    assert len(full) >= 3
    if connection.vendor == "postgresql":
        assert len(deletes) == 3
        assert len(commits) >= 3


def test_from_python() -> None:
    """`call_command` with keywords."""
    row("failed", days=8)
    kept = row(days=8)
    assert run(days=7, status=["failed"], batch_size=1) == "1 task deleted."
    assert left() == {kept.id}


WRONG = [
    (["--days", "-1"], "--days"),
    (["--days", "nan"], "--days"),
    (["--days", "inf"], "--days"),
    (["--days", "1e9"], "--days"),
    (["--days", "week"], "--days"),
    ([], "--days"),
    (["--days", "7", "--batch-size", "0"], "--batch-size"),
    (["--days", "7", "--batch-size", "-5"], "--batch-size"),
    (["--days", "7", "--batch-size", "1000000"], "--batch-size"),
    (["--days", "7", "--status", "runing"], "no status 'runing'"),
    *((["--days", "7", "--status", status], "not finished") for status in sorted(UNFINISHED)),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_what_is_wrong_is_refused(arguments: list[str], said: str) -> None:
    """Before anything is deleted, with the option's name."""
    old = row(days=1000)
    with pytest.raises(CommandError, match=said):
        run(*arguments)
    assert left() == {old.id}


def test_a_database_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words, not a traceback."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rail_async_tasks_execution RENAME TO gone")
    try:
        with pytest.raises(CommandError, match=r"manage\.py migrate"):
            run("--days", "7")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO rail_async_tasks_execution")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_rows_in_memory_are_not_its_to_delete() -> None:
    """With `track_in_database` off they are those of other processes."""
    old = row(days=1000)
    setting = {"task_settings": {"track_in_database": False}}
    with override_settings(RAIL_DJANGO_GRAPHQL=setting):
        assert run("--days", "7") == "0 tasks deleted."
    assert left() == {old.id}
    assert host.hosted() is None
