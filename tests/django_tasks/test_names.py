"""Names in rows: a process that lacks the module imports it, and calls nothing but tasks."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from django.utils import timezone

from devservers.process import ROOT
from rail_async_tasks import task as own_task
from rail_async_tasks.contrib import tasks_setting
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.registry import registry
from tests.django_tasks.api import (
    OURS,
    TASKS,
    TaskResultDoesNotExist,
    default_task_backend,
    task_backends,
)
from tests.django_tasks.conftest import on_sqlite
from tests.support.runtimes import Configure
from tests.support.timings import Timings
from tests.support.waiting import wait_for

pytestmark = [on_sqlite, pytest.mark.usefixtures("configure")]

LATE = "tests.django_tasks.late"


@pytest.fixture(autouse=True)
def nothing_is_imported(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No module of `late`, and no name of a test before."""
    settings.TASKS = {**TASKS, "immediate": {"BACKEND": _immediate()}}
    monkeypatch.setattr(registry, "_sought", set())
    for name in [name for name in sys.modules if name.startswith(f"{LATE}.")]:
        monkeypatch.delitem(sys.modules, name)
    tasks_setting.declare()


def _immediate() -> str:
    library = type(task_backends).__module__.partition(".")[0]
    package = "django.tasks" if library == "django" else library
    return f"{package}.backends.immediate.ImmediateBackend"


def leave(name: str, **arguments: Any) -> TaskExecution:
    """A row that another process has left behind."""
    now = timezone.now()
    given = arguments or {"args": [5], "kwargs": {}, "backend": "default"}
    return TaskExecution.objects.create(
        id=new_id(), name=name, status="pending", queue="default", arguments=given,
        created_at=now, updated_at=now,
    )  # fmt: skip


def until_it_is(row: TaskExecution, status: str) -> TaskExecution:
    def has_it() -> bool:
        row.refresh_from_db()
        return row.status == status

    wait_for(has_it, lambda: f"{row.name} is {row.status}: {row.error}")
    return row


@pytest.fixture
def running(configure: Configure, timings: Timings) -> None:
    """A runtime that looks for unknown names at every turn."""
    configure(backend="thread", unknown_task_seconds=1)
    timings.set("reconciler", interval=0.05, names_every=1)
    host.runtime_in_thread()


@pytest.mark.usefixtures("running")
def test_a_row_brings_its_module() -> None:
    """Wherever the task is declared, and whichever backend its decorator names."""
    results = {"mailing.send": 6, "mailing.Sender.send": 7, "elsewhere.count": 8}
    rows = {name: leave(f"{LATE}.{name}") for name in results}
    for name, result in results.items():
        row = until_it_is(rows[name], "completed")
        assert row.result == result
        assert default_task_backend.get_result(str(row.id)).return_value == result


NO_TASKS = (
    f"{LATE}.mailing.no_task", f"{LATE}.mailing.send.func", f"{LATE}.gone.send",
    f"{LATE}.mailing.gone", f"{LATE}.broken.send", "os.system", "nodots", "a b.c", ".x", "x.",
)  # fmt: skip


@pytest.mark.usefixtures("running")
def test_a_name_of_no_task_runs_nothing() -> None:
    """It is unknown, and fails as such; one that can't be imported keeps none from its turn."""
    rows = [leave(name) for name in NO_TASKS]
    for row in rows:
        until_it_is(row, "failed")
        assert row.error_code == "unknown_task", row.name
        with pytest.raises(TaskResultDoesNotExist):
            default_task_backend.get_result(str(row.id))


@pytest.mark.usefixtures("running")
def test_arguments_that_are_no_django_tasks_run_nothing() -> None:
    """A row with other arguments under the name of a Django task."""
    row = until_it_is(leave(f"{LATE}.mailing.send", number=5), "failed")
    assert row.error_code == "invalid_args"
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(str(row.id))


def test_a_result_is_read_where_its_module_is_not_imported() -> None:
    row = leave(f"{LATE}.mailing.send")
    assert f"{LATE}.mailing" not in sys.modules
    result = default_task_backend.get_result(str(row.id))
    assert result.task.module_path == f"{LATE}.mailing.send"
    assert result.args == [5]


def test_a_result_of_one_of_our_own_tasks_is_none(configure: Configure) -> None:
    configure(backend="sync")
    handle = own_task(name="own.task")(_own).enqueue(args=[1])
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(str(handle.id))


def _own(args: list[int]) -> list[int]:
    return args


def test_a_retry_by_hand_imports_the_module(configure: Configure) -> None:
    """In the process of the dashboard, say."""
    from rail_async_tasks import service
    from rail_async_tasks.access import SYSTEM

    configure(backend="sync")
    row = leave(f"{LATE}.mailing.send")
    TaskExecution.objects.filter(id=row.id).update(status="failed", completed_at=timezone.now())
    again = service.retry(SYSTEM, row.id)
    assert again.result == 6
    assert msgspec.json.decode(host.ledger().arguments(again.id) or "")["args"] == [5]


SCRIPT = """
import sys, django
from django.conf import settings
apps = ["django.contrib.auth", "django.contrib.contenttypes", "rail_async_tasks"]
settings.configure(INSTALLED_APPS=apps, TASKS={tasks}, USE_TZ=True,
    DATABASES={{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}})
{before}
django.setup()
print(*(name for name in sys.modules if "django_tasks" in name or name == "django.tasks.base"))
"""


def script(tasks: dict[str, Any], before: str = "") -> str:
    """Returns the modules that a project with this setting has imported once it is set up."""
    source = SCRIPT.format(tasks=tasks, before=before)
    command = [sys.executable, "-W", "error", "-c", source]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_project_that_names_another_backend_imports_none_of_it() -> None:
    """No import cost."""
    assert script({"default": {"BACKEND": _immediate()}}).split() == []
    assert script({}).split() == []


def test_our_backend_is_there_once_django_is_set_up() -> None:
    """Also where the first task is declared before any model exists."""
    ours = {"default": {"BACKEND": OURS}}
    assert "rail_async_tasks.contrib.django_tasks.backend" in script(ours)
    early = "import tests.django_tasks.late.mailing"
    assert "rail_async_tasks.contrib.django_tasks.backend" in script(ours, early)
