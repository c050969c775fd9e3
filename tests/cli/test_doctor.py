"""`tasks doctor`: each broken set-up that it names, made and found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.fernet import Fernet
from django.db import OperationalError, connection, connections
from django.test import override_settings

from devservers.process import free_port
from devservers.redis import RedisServer
from rail_async_tasks import queues, task
from rail_async_tasks.backends import get_backend
from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.cli.doctor import database as rows
from rail_async_tasks.cli.doctor import project, report
from rail_async_tasks.cli.doctor.setups import SETUPS, Finding
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution, TaskRuntime, TaskSchedule
from tests.cli.conftest import Said

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.turns("database")]

Tasks = Callable[..., Said]
Row = Callable[..., TaskExecution]
ProcessRow = Callable[..., TaskRuntime]

HERE = "tests.cli.test_doctor"


class DeadBroker(BrokerBackend):
    """A broker whose server is gone."""

    async def push(self, dispatches: object) -> None:
        raise ConnectionRefusedError("connection refused")


class LivingBroker(BrokerBackend):
    """A broker that takes everything."""

    async def push(self, dispatches: object) -> None:
        """Takes it."""


@pytest.fixture(autouse=True)
def the_project_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test project's own findings (no WAL, deployment) are not those of a test."""
    monkeypatch.setattr(project, "system_checks", lambda *, database: iter(()))


@pytest.fixture
def settings() -> Any:
    """Sets task settings for the test."""
    with ExitStack() as stack:
        yield lambda **given: stack.enter_context(
            override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": given})
        )


def names(found: list[Finding] | None = None) -> set[str]:
    """Returns what the doctor finds; each finding has its words."""
    findings = list(report.examine()) if found is None else found
    for it in findings:
        assert it.message
        assert it.remedy
        setup = SETUPS.get(it.name)
        assert setup is None or (setup.area == it.area and it.remedy.startswith(setup.remedy))
    return {it.name for it in findings}


def test_a_sound_project(tasks: Tasks, process_row: ProcessRow, row: Row) -> None:
    """Nothing is found, and the exit code is 0."""
    process_row()
    row()
    row("running", runtime_id=process_row(place="b 2").id)
    TaskRuntime.objects.filter(place="b 2").delete()
    TaskExecution.objects.filter(status="running").delete()
    said = tasks("doctor")
    assert said.out.endswith("Nothing is wrong.\n"), said.out
    assert said.code == 0
    document = tasks("doctor", "--json").json
    assert (document["ok"], document["findings"]) == (True, [])
    assert set(document["areas"].values()) == {"ok"}
    assert host.hosted() is None


def test_an_error_is_named_with_its_remedy(tasks: Tasks, row: Row) -> None:
    """And the exit code is 1; JSON has the same."""
    row()
    said = tasks("doctor")
    assert said.code == 1
    assert "error no-process-for-waiting: 1 task may start now." in said.out
    assert f"Remedy: {SETUPS['no-process-for-waiting'].remedy}" in said.out
    assert said.out.endswith("1 error, 0 warnings.\n")
    document = tasks("doctor", "--json")
    assert document.code == 1
    assert document.json["areas"]["workers"] == "error"
    assert set(document.json["findings"][0]) == {"name", "area", "level", "message", "remedy"}


# --- workers --------------------------------------------------------------------------------------


def test_no_process(tasks: Tasks) -> None:
    """A warning while nothing waits: the exit code stays 0."""
    assert names() == {"no-process"}
    assert tasks("doctor").code == 0


def test_no_process_for_waiting(row: Row) -> None:
    """A delayed task alone does not count."""
    row(run_after=datetime.now(UTC) + timedelta(hours=1))
    assert names() == {"no-process"}
    row()
    assert names() == {"no-process-for-waiting"}


@pytest.mark.parametrize("backend", ["arq", "celery", "dramatiq", "django_q"])
def test_a_web_process_runs_nothing_that_needs_a_worker(
    backend: str, settings: Any, process_row: ProcessRow, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It only sends. The remedy has the command that starts a worker."""
    monkeypatch.setattr(report.connections, "bus", lambda settings: ())
    monkeypatch.setattr(report.connections, "broker", lambda settings: ())
    settings(backend=backend, redis_url="redis://localhost:1/0", celery_app=f"{HERE}.APP")
    process_row(role="web")
    [finding] = report.examine()
    assert finding.name == "no-process"
    command = get_backend(get_settings()).worker_command  # type: ignore[attr-defined]
    assert command
    assert finding.remedy.endswith(f"A worker starts by `{command}`.")
    row()
    [finding] = report.examine()
    assert finding.name == "no-process-for-waiting"
    assert finding.message == (
        "1 task may start now. The live processes are no workers: they only send tasks."
    )
    process_row(-30, role="worker", dead=True)
    assert names() == {"no-process-for-waiting"}
    process_row(role="worker")
    assert names() == set()


def test_a_process_without_a_role_may_be_a_worker(settings: Any, process_row: ProcessRow) -> None:
    """Those of a version before the column, during a deploy."""
    settings(backend=f"{HERE}.LivingBroker", redis_url=None)
    process_row(role=None)
    assert names() == set()


def test_a_web_process_runs_tasks_where_no_broker_is(process_row: ProcessRow, row: Row) -> None:
    process_row(role="web")
    row()
    assert names() == set()


def test_process_silent(process_row: ProcessRow) -> None:
    """Its lease has lapsed, and no other has found it dead."""
    process_row()
    process_row(-30)
    assert names() == {"process-silent"}


def test_tasks_orphaned(process_row: ProcessRow, row: Row) -> None:
    """Running in the name of a process without a lease."""
    process_row()
    row("running")
    assert names() == {"tasks-orphaned"}


def test_tasks_unknown(process_row: ProcessRow, row: Row) -> None:
    """No live process knows the name."""
    process_row(names=["cli.other"])
    row()
    assert names() == {"tasks-unknown"}


def test_queue_stuck_and_paused(process_row: ProcessRow, row: Row) -> None:
    """An old due task; in a paused queue that is no wonder."""
    process_row()
    row(age=700)
    assert names() == {"queue-stuck"}
    queues.pause("default")
    assert names() == {"queue-paused"}


def test_what_is_paused_does_not_wait_for_a_process(row: Row) -> None:
    """Its tasks may not start, so no process is missing for them."""
    row()
    queues.pause("default")
    assert names() == {"queue-paused", "no-process"}


def test_backlog_full(process_row: ProcessRow, row: Row, settings: Any) -> None:
    """As many wait as may."""
    settings(max_pending=2)
    process_row()
    row()
    assert names() == set()
    row()
    assert names() == {"backlog-full"}


def test_schedule_late(process_row: ProcessRow) -> None:
    """The last tick is an hour ago, and the next was due a minute later."""

    @task(name="cli.nightly", cron="* * * * *")
    def nightly() -> None:
        pass

    process_row()
    TaskSchedule.objects.create(name="cli.nightly", last_tick=datetime.now(UTC))
    assert names() == set()
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    TaskSchedule.objects.update(last_tick=hour_ago)
    assert names() == {"schedule-late"}


# --- settings and the server ----------------------------------------------------------------------


def test_settings_unusable(settings: Any) -> None:
    """The rest is examined as far as it can be."""
    settings(max_concurrency="many")
    assert "settings-unusable" in names()


def test_tasks_disabled(settings: Any) -> None:
    """A choice, so a warning."""
    settings(enabled=False)
    assert "tasks-disabled" in names()


def test_rows_in_memory(settings: Any) -> None:
    """Of the database nothing is asked then."""
    settings(track_in_database=False)
    assert names() == {"rows-in-memory"}


def test_sensitive_unreadable(process_row: ProcessRow, row: Row, settings: Any) -> None:
    """The key was taken away while a task waits."""

    @task(name="cli.row", sensitive=["password"])
    def login(password: str) -> None:
        pass

    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings(encryption_keys=[old])
    stored = login.definition.stored(b'{"password": "hunter2"}')
    process_row()
    row(arguments=json.loads(stored))
    settings(encryption_keys=[new, old])
    assert names() == set()
    settings(encryption_keys=[new])
    assert names() == {"sensitive-unreadable"}


def test_asgi_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server; or uvicorn without a library for WebSocket."""
    installed: set[str] = set()
    monkeypatch.setattr(project, "find_spec", lambda name: name if name in installed else None)
    assert "no-asgi-server" in names()
    installed.add("uvicorn")
    assert "no-websocket-library" in names()
    installed.add("websockets")
    assert not {"no-asgi-server", "no-websocket-library"} & names()


def test_a_servers_answer(tasks: Tasks) -> None:
    """None; one that takes no work; one with a warning; one that is ready."""
    url = f"http://127.0.0.1:{free_port()}"
    assert names(list(project.server(url))) == {"server-unreachable"}
    ready = b'{"status": "ok", "checks": {"runtime": "ok"}}'
    draining = b'{"status": "unavailable", "checks": {"runtime": "draining", "bus": "ok"}}'
    warned = b'{"status": "ok", "checks": {}, "warnings": {"lifespan": "none"}}'
    assert names(list(project._answered(url, 200, ready))) == set()
    (found,) = project._answered(url, 503, draining)
    assert (found.name, found.level) == ("server-not-ready", "error")
    assert "runtime: draining" in found.message
    (found,) = project._answered(url, 200, warned)
    assert (found.name, found.level) == ("server-not-ready", "warning")
    assert names([*project._answered(url, 404, b"<html>")]) == {"server-not-ready"}
    assert tasks("doctor", "--url", "file:///etc/passwd").code == 2


def test_system_checks_are_findings(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under their ids, with their hints; a silenced one is none."""
    monkeypatch.undo()
    settings(max_workers=0, nonsense=1)
    found = {it.name: it for it in report.examine()}
    assert found["rail_async_tasks.E004"].level == "error"
    assert "max_workers" in found["rail_async_tasks.E004"].message
    with override_settings(SILENCED_SYSTEM_CHECKS=["rail_async_tasks.E004"]):
        assert "rail_async_tasks.E004" not in {it.name for it in report.examine()}


# --- database, migrations, clocks -----------------------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_database_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its driver's words are the message."""
    connections["default"].close()
    with monkeypatch.context() as patch:
        patch.setitem(connections["default"].settings_dict, "NAME", "/nowhere/at/all.sqlite3")
        assert names() == {"database-unreachable"}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_could_not_be_looked_at_is_not_ok(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the database none knows which workers live."""
    connections["default"].close()
    with monkeypatch.context() as patch:
        patch.setitem(connections["default"].settings_dict, "NAME", "/nowhere/at/all.sqlite3")
        areas = tasks("doctor", "--json").json["areas"]
    unread = {"migrations", "workers", "clocks"}
    assert {area for area, state in areas.items() if state == "not checked"} == unread
    assert (areas["database"], areas["settings"]) == ("error", "ok")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_database_that_fails_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is found too, and not a traceback."""

    def fails(alias: str) -> Any:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(rows, "clocks", fails)
    assert "database-unreachable" in names()


def test_database_read_only(process_row: ProcessRow) -> None:
    """As on a replica."""
    process_row()
    sqlite = connection.vendor == "sqlite"
    on, off = (
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0")
        if sqlite
        else (f"SET default_transaction_read_only = {it}" for it in ("on", "off"))
    )
    with connection.cursor() as cursor:
        cursor.execute(on)
    try:
        assert names() == {"database-read-only"}
    finally:
        with connection.cursor() as cursor:
            cursor.execute(off)


def test_tables_missing() -> None:
    """The table's name is in the message."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rail_async_tasks_schedule RENAME TO gone")
    try:
        found = list(report.examine())
        assert "tables-missing" in names(found)
        assert {report._state(it, found) for it in ("workers", "clocks")} == {"not checked"}
        assert any("rail_async_tasks_schedule" in it.message for it in found)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO rail_async_tasks_schedule")


def test_migrations_unapplied_and_unknown(process_row: ProcessRow) -> None:
    """By the names in the table of migrations."""
    process_row()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE django_migrations SET name = '9999_of_tomorrow' WHERE name = %s AND app = %s",
            ["0003_error_type_and_language", "rail_async_tasks"],
        )
    try:
        assert names() == {"migrations-unapplied", "migrations-unknown"}
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE django_migrations SET name = %s WHERE name = '9999_of_tomorrow'",
                ["0003_error_type_and_language"],
            )


def test_finished_not_deleted(process_row: ProcessRow, row: Row) -> None:
    """Expired two hours ago."""
    process_row()
    row("completed", age=9000, expires_at=datetime.now(UTC) - timedelta(hours=2))
    assert names() == {"finished-not-deleted"}


def test_clocks(process_row: ProcessRow, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row from the future; and a database whose clock is a minute ahead."""
    process_row(left=600)
    ahead = row(age=-3600, run_after=datetime.now(UTC) + timedelta(hours=2))
    assert names() == {"clock-was-ahead"}
    ahead.delete()
    minute = timedelta(minutes=1)
    monkeypatch.setattr(rows, "clock", lambda alias: datetime.now(UTC) + minute)
    assert names() == {"clock-differs"}


# --- bus and broker -------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_bus_unreachable(process_row: ProcessRow, settings: Any) -> None:
    """The password of the URL is in no message."""
    process_row()
    settings(redis_url=f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    found = list(report.examine())
    assert names(found) == {"bus-unreachable"}
    assert not any("hunter2" in it.message for it in found)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_bus_refuses(process_row: ProcessRow, settings: Any, own_redis: RedisServer) -> None:
    """A user that may connect, and not publish."""
    process_row()
    settings(redis_url=own_redis.url)
    assert names() == set()
    client = redis.Redis.from_url(own_redis.url)
    client.execute_command("ACL", "SETUSER", "default", "-publish")
    assert names() == {"bus-refuses"}
    client.close()


def test_bus_within_one_process(process_row: ProcessRow) -> None:
    """Two are alive, and the bus is in memory."""
    process_row()
    process_row(place="shop-2 2")
    assert names() == {"bus-within-one-process"}


def test_broker_unreachable(process_row: ProcessRow, settings: Any) -> None:
    """The client's words are in the message; one that answers is sound."""
    process_row()
    settings(backend=f"{HERE}.LivingBroker")
    assert names() == set()
    settings(backend=f"{HERE}.DeadBroker")
    assert names() == {"broker-unreachable"}


@pytest.mark.parametrize(
    ("backend", "setting"),
    [
        ("arq", 'task_settings["redis_url"]'),
        ("celery", 'task_settings["celery_app"]'),
        ("dramatiq", "DRAMATIQ_BROKER"),
        ("django_q", "Q_CLUSTER"),
        (f"{HERE}.DeadBroker", "the settings of the backend's framework"),
    ],
)
def test_the_remedy_names_the_setting_of_the_broker(
    backend: str, setting: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reader searches a framework's settings for an address that stands in ours."""

    async def refusal(backend: BrokerBackend) -> str:
        return "no answer"

    monkeypatch.setattr(report.connections, "_refusal", refusal)
    settings(backend=backend, redis_url="redis://localhost:1/0", celery_app=f"{HERE}.APP")
    [finding] = report.connections.broker(get_settings())
    assert setting in finding.remedy


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_arq_without_redis(process_row: ProcessRow, settings: Any) -> None:
    """A push of nothing would not connect; the question what it has does."""
    process_row()
    settings(backend="arq", redis_url=f"redis://127.0.0.1:{free_port()}/0", bus="memory")
    assert "broker-unreachable" in names()


def test_tasks_sent(process_row: ProcessRow, row: Row, settings: Any) -> None:
    """To another backend's workers; and to this one's, where none has taken them."""
    process_row()
    settings(backend=f"{HERE}.LivingBroker")
    sent = datetime.now(UTC) - timedelta(minutes=5)
    row(dispatched_at=sent, dispatched_to="celery", dispatches=1)
    assert names() == {"tasks-sent-elsewhere"}
    TaskExecution.objects.update(dispatched_to=f"{HERE}.LivingBroker")
    assert names() == set()
    TaskExecution.objects.update(dispatched_at=sent - timedelta(minutes=6))
    assert names() == {"tasks-not-collected"}


# --- the list -------------------------------------------------------------------------------------


def made_here() -> set[str]:
    """Returns the names that this file's tests expect."""
    text = Path(__file__).read_text()
    return set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', text)) & set(SETUPS)


def test_each_broken_set_up_has_a_test() -> None:
    """Its name stands in an assertion of this file."""
    assert set(SETUPS) - made_here() == set()
    assert len(SETUPS) >= 15


def test_the_page_has_the_table() -> None:
    """docs/command-line.md names each, with its level, what it is, and its remedy."""
    page = Path(__file__).parents[2].joinpath("docs", "command-line.md").read_text()
    for name, setup in SETUPS.items():
        line = f"| `{name}` | {setup.area} | {setup.level} | {setup.what} | {setup.remedy} |"
        assert line in page, line
