"""`tasks list`, `show`, `queues` and `processes`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.test import override_settings

from rail_async_tasks import task
from rail_async_tasks.cli.main import SUBCOMMANDS
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskEvent, TaskExecution
from rail_async_tasks.rest.render import FIELDS
from tests.cli.conftest import Said, ids

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.turns("database")]

Tasks = Callable[..., Said]
Row = Callable[..., TaskExecution]


def test_a_list_is_newest_first(tasks: Tasks, row: Row) -> None:
    """A heading, and a line per task with its whole id."""
    old, new = row("failed", error="x", error_type="KeyError"), row("running", progress=42)
    lines = tasks("list").out.splitlines()
    assert lines[0].split()[:4] == ["ID", "STATUS", "AGE", "NAME"]
    assert [line.split()[0] for line in lines[1:]] == [str(new.id), str(old.id)]
    assert "running 42%" in lines[1]
    assert "KeyError" in lines[2]
    assert host.hosted() is None


def test_a_list_as_json_has_the_fields_of_rest(tasks: Tasks, row: Row) -> None:
    """One document of REST's form, times in UTC."""
    task = row("failed", error="x", traceback="Traceback ...")
    document = tasks("list", "--json").json
    assert document["next"] is None
    (found,) = document["results"]
    assert list(found) == list(FIELDS)
    assert found["id"] == str(task.id)
    assert found["created_at"].endswith("Z")
    assert found["traceback"] == "Traceback ..."


def test_each_filter_narrows(tasks: Tasks, row: Row) -> None:
    """State, name, queue, owner and age, and all of them together."""
    wanted = row("failed", name="a.b", queue="low", owner_id="7", age=7200)
    for other in ({"name": "a.c"}, {"queue": "high"}, {"owner_id": "8"}, {"age": 60}):
        row("failed", **({"name": "a.b", "queue": "low", "owner_id": "7", "age": 7200} | other))
    row("completed", name="a.b", queue="low", owner_id="7", age=7200)
    filters = [
        "--status", "failed", "--name", "a.b", "--queue", "low", "--owner", "7",
        "--older-than", "1h",
    ]  # fmt: skip
    assert ids(tasks("list", "--json", *filters)) == [wanted.id]
    for number in range(0, len(filters), 2):
        assert len(ids(tasks("list", "--json", *filters[number : number + 2]))) == 5
    assert len(ids(tasks("list", "--json", "--status", "failed", "--status", "completed"))) == 6


def test_a_limit_and_the_next_page(tasks: Tasks, row: Row) -> None:
    """`next` is what `--after` takes."""
    rows = [row().id for _ in range(5)][::-1]
    first = tasks("list", "--json", "--limit", 2)
    assert ids(first) == rows[:2]
    second = tasks("list", "--json", "--limit", 3, "--after", first.json["next"])
    assert ids(second) == rows[2:]
    assert second.json["next"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--status", "runing"], "no status 'runing'"),
        (["--older-than", "5"], "no duration"),
        (["--limit", "0"], "from 1 to 10000"),
        (["--after", "abc"], "no id of a task"),
        (["--name", "a\0b"], "NUL"),
    ],
)
def test_wrong_arguments(tasks: Tasks, arguments: list[str], said: str) -> None:
    """Are named, with the rule."""
    found = tasks("list", *arguments)
    assert found.code != 0
    assert said in found.error


def test_a_queue_that_there_is_not_is_said_to_be_none(tasks: Tasks, row: Row) -> None:
    """A name may be mistyped; rows of a queue that has been given up are listed as ever."""
    row(queue="given up")
    assert "given up" in tasks("list", "--queue", "given up").out
    said = tasks("list", "--queue", "defualt").out
    assert said.startswith("No task fits.\nThere is no queue defualt. The queues: ")
    assert "default" in said
    assert tasks("list", "--queue", "default").out == "No task fits.\n"


@pytest.mark.parametrize(
    "options",
    [
        ("--no-color",), ("--force-color",), ("--traceback",), ("--verbosity=2",), ("-v", "2"),
        ("--settings=tests.settings",), ("--pythonpath=.",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_djangos_own_options_may_stand_behind(
    tasks: Tasks, row: Row, options: tuple[str, ...]
) -> None:
    """As with commands that have no subcommands; and what stands before is not undone."""
    task = row()
    assert str(task.id) in tasks("list", *options).out
    assert str(task.id) in tasks(*options, "list").out


def test_colours_may_be_forced(tasks: Tasks, row: Row) -> None:
    """Off a terminal, for a log that shows them; JSON has none in any case."""
    row("failed")
    assert "\x1b[" not in tasks("list").out
    assert "\x1b[31m" in tasks("list", "--force-color").out
    assert "\x1b[" not in tasks("--force-color", "list", "--json").out


def test_an_expired_task_is_in_no_list(tasks: Tasks, row: Row) -> None:
    """As everywhere; and no task is a sentence, or an empty document."""
    gone = row("completed", age=60)
    TaskExecution.objects.filter(id=gone.id).update(expires_at=gone.created_at)
    assert tasks("list").out == "There are no tasks.\n"
    assert tasks("list", "--name", "x").out == "No task fits.\n"
    assert tasks("list", "--json").json == {"results": [], "next": None}
    assert tasks("show", gone.id).code == 2


def test_a_task_is_shown_whole(tasks: Tasks, row: Row) -> None:
    """With its arguments, error, traceback and history."""
    task = row(
        "failed", arguments={"n": 1}, error="boom", error_code="exception", error_type="KeyError",
        traceback="Traceback (most recent call last):\n  File ...", owner_id="7",
    )  # fmt: skip
    TaskEvent.objects.create(
        execution_id=task.id, name=task.name, seq=1, to_status="pending", attempt=0,
        at=task.created_at, actor="7", reason="create",
    )  # fmt: skip
    out = tasks("show", task.id).out
    for part in (str(task.id), "owner:     7", '"n": 1', "error (exception, KeyError):", "boom",
                 "Traceback (most recent call last):", "- -> pending", "by 7"):  # fmt: skip
        assert part in out
    document = tasks("show", task.id, "--json").json
    assert set(FIELDS) < set(document)
    assert document["arguments"] == {"n": 1}
    assert document["events"][0]["to_status"] == "pending"


def test_escape_sequences_stay_text(tasks: Tasks, row: Row) -> None:
    """In names, messages, errors, tracebacks, arguments, results and owners, in each format."""
    evil = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e"
    task = row(
        "failed", name=f"n{evil}", queue=f"q{evil}"[:90], owner_id=evil, progress_message=evil,
        error=f"a\n{evil}", error_type=evil, error_code="exception", traceback=f"t\n{evil}",
        arguments={evil: evil}, result={"a": evil},
    )  # fmt: skip
    for arguments in (["list"], ["show", task.id], ["queues"], ["list", "--json"],
                      ["show", task.id, "--json"], ["watch", task.id]):  # fmt: skip
        out = tasks(*arguments).out
        assert out
        assert not any(char in out for char in "\x1b\x07\r\x9b\u202e"), arguments


def test_sensitive_arguments_are_redacted(tasks: Tasks, row: Row) -> None:
    """By the declaration, and by their encrypted form where the task is not known here."""

    @task(name="cli.login", sensitive=["password"])
    def login(user: str, password: str) -> None:
        pass

    keys = {"task_settings": {"encryption_keys": [Fernet.generate_key().decode()]}}
    with override_settings(RAIL_DJANGO_GRAPHQL=keys):
        stored = login.definition.stored(b'{"user": "ann", "password": "hunter2"}')
    sealed = json.loads(stored)
    plain = {"user": "ann", "password": "hunter2"}
    for name, arguments in (("cli.login", plain), ("cli.login", sealed), ("gone", sealed)):
        shown = tasks("show", row(name=name, arguments=arguments).id, "--json").json["arguments"]
        assert shown == {"user": "ann", "password": "[redacted]"}


def test_ids_may_be_abbreviated(tasks: Tasks, row: Row) -> None:
    """To a beginning that one task has."""
    first = UUID("019ac6a1-2b3c-7abc-8123-456789abcdef")
    second = UUID("019ac6a1-2b3c-7def-8123-456789abcdef")
    row(id=first, name="first")
    row(id=second, name="second")
    shared = str(first)[:10]
    assert "2 tasks or more begin with" in tasks("show", shared).error
    assert tasks("show", shared).code == 2
    long_enough = str(first)[:24]
    assert "name:      first" in tasks("show", long_enough).out
    assert "name:      first" in tasks("show", long_enough.replace("-", "").upper()).out
    for wrong in ("00000000", "1234567", "xyz", "g" * 8, new_id()):
        found = tasks("show", wrong)
        assert (found.code, found.out) == (2, ""), wrong


def test_processes(tasks: Tasks, row: Row, process_row: Callable[..., Any]) -> None:
    """Alive, silent and dead ones, with what they run."""
    alive = process_row(role="worker")
    process_row(-5, place="shop-2 12", role="web")
    process_row(-5, place="shop-3 13", dead=True)
    row("running", runtime_id=alive.id)
    found = {it["place"]: it for it in tasks("processes", "--json").json["results"]}
    states = {place: it["state"] for place, it in found.items()}
    assert states == {"shop-1 4711": "alive", "shop-2 12": "silent", "shop-3 13": "dead"}
    assert found["shop-1 4711"]["running"] == 1
    roles = {place: it["role"] for place, it in found.items()}
    assert roles == {"shop-1 4711": "worker", "shop-2 12": "web", "shop-3 13": None}
    lines = [line.split() for line in tasks("processes").out.splitlines()]
    assert lines[0][:4] == ["PROCESS", "ROLE", "STATE", "RUNNING"]
    assert {line[2] for line in lines[1:]} == {"worker", "web", "-"}  # a place is two words
    assert len(lines) == 4


def test_no_processes(tasks: Tasks) -> None:
    """A sentence, or an empty document."""
    assert tasks("processes").out == "No process has run tasks in the last day.\n"
    assert tasks("processes", "--json").json == {"results": []}


def test_without_a_subcommand_the_choices_are_listed(tasks: Tasks) -> None:
    """With what each does; the exit code is that of wrong usage."""
    said = tasks()
    assert said.code == 2
    assert said.error.startswith("Name a subcommand, as in `manage.py tasks list`:\n")
    for name, subcommand in SUBCOMMANDS.items():
        assert f"\n  {name}" in said.error
        assert subcommand.help in said.error


def test_rows_in_memory_are_not_read(tasks: Tasks) -> None:
    """The command says why, with the setting's name."""
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": {"track_in_database": False}}):
        found = tasks("list")
    assert found.code == 4
    assert "track_in_database" in found.error


def test_missing_tables_are_an_error_of_one_line(tasks: Tasks) -> None:
    """Not a traceback."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rail_async_tasks_execution RENAME TO gone")
    try:
        assert tasks("list").code == 4
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO rail_async_tasks_execution")
