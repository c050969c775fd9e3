"""Prometheus metrics: what is counted, how it is labelled, and who may see it."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from msgspec.structs import replace
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rail_async_tasks import ConfigurationError, Retry, queues, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.observability import count_by_metrics, readings
from rail_async_tasks.observability import metrics as module
from rail_async_tasks.runtime import observers
from rail_async_tasks.runtime.event_counts import EventCounts
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.waiting import TIMEOUT, eventually, final, until_status

pytestmark = [pytest.mark.usefixtures("configure"), pytest.mark.turns("store")]

# In the order of a sample's key.
LABELS = ("task", "queue", "status", "writer", "le")
Samples = dict[tuple[str, ...], float]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from 0."""
    monkeypatch.setattr(module, "_metrics", None)
    monkeypatch.setattr(observers, "_known", None)
    monkeypatch.setattr(readings, "_table", readings._Table())


def samples(text: str | None = None) -> Samples:
    """The metrics, by name and label values, without the prefix."""
    text = module.get_metrics().page("")[0].decode() if text is None else text
    return {
        (
            it.name.removeprefix("rail_tasks_"),
            *(it.labels[label] for label in LABELS if label in it.labels),
        ): it.value
        for family in text_string_to_metric_families(text)
        for it in family.samples
    }


async def until_counted(*wanted: tuple[str, ...], value: float = 1) -> Samples:
    await eventually(lambda: all(samples().get(key) == value for key in wanted))
    return samples()


# --- what is counted ------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "sync"])
@pytest.mark.usefixtures("ends_cleanly")
async def test_what_happens_to_a_task_is_counted(configure: Configure, backend: str) -> None:
    """Under its name and queue: its start, its attempts, retries, waits, times and end."""
    configure(metrics_enabled=True, backend=backend)

    @task(name="m.twice", queue="counted")
    async def twice(info: Any) -> None:
        if info.context.task.attempt == 1:
            raise Retry(delay=0)
        await asyncio.sleep(0.01)

    await final(await twice.aenqueue())
    labels = ("m.twice", "counted")
    found = await until_counted(("finished_total", *labels, "completed"))
    expected = {"enqueued_total": 1, "started_total": 2, "retries_total": 1, "slow_total": 0,
                "handed_back_total": 0, "dropped_total": 0, "duration_seconds_count": 2,
                "queue_wait_seconds_count": 1}  # fmt: skip
    assert {name: found[name, *labels] for name in expected} == expected
    assert 0.01 <= found["duration_seconds_sum", *labels] < TIMEOUT
    assert 0 <= found["queue_wait_seconds_sum", *labels] < TIMEOUT
    assert not any(key[0] == "running" for key in found)


@in_memory
@pytest.mark.usefixtures("ends_cleanly")
async def test_paused_queues_are_gauged(configure: Configure) -> None:
    """Queues whose names are not known share one series."""
    configure(metrics_enabled=True)
    runtime = await host.aruntime()
    for name in ("stray", "other stray"):
        runtime.slots.know(name)
    await queues.apause("low")
    await eventually(lambda: runtime.paused_queues)
    found = samples()
    assert (found["queue_paused", "low"], found["queue_paused", "high"]) == (1, 0)
    assert found["queue_paused", "(other)"] == 0


@in_memory
@pytest.mark.usefixtures("ends_cleanly")
async def test_every_end_has_its_status(configure: Configure) -> None:
    """Failed, cancelled while it ran, and cancelled before."""
    configure(metrics_enabled=True)

    @task(name="m.fall", max_retries=0)
    async def fall() -> None:
        raise ValueError

    @task(name="m.hang")
    async def hang() -> None:
        await asyncio.Event().wait()

    await final(await fall.aenqueue())
    handle = await hang.aenqueue()
    await until_status(handle, "running")
    assert samples()["running", "m.hang", "default"] == 1
    await handle.acancel()
    await final(handle)
    later = await hang.using(delay=3600).aenqueue()
    await service.acancel(SYSTEM, later.id)
    await until_counted(("finished_total", "m.fall", "default", "failed"))
    found = await until_counted(("finished_total", "m.hang", "default", "cancelled"), value=2)
    assert found["duration_seconds_count", "m.hang", "default"] == 1
    assert not any(key[0] == "running" for key in found)


@in_memory
@pytest.mark.usefixtures("ends_cleanly")
async def test_slow_and_handed_back_attempts_are_counted(configure: Configure) -> None:
    """Neither is a retry."""
    configure(metrics_enabled=True, slow_task_threshold_seconds=0.01, drain_seconds=0)

    @task(name="m.long")
    async def long() -> None:
        await asyncio.Event().wait()

    await long.aenqueue()
    labels = ("m.long", "default")
    await until_counted(("slow_total", *labels))
    await host.astop()
    found = await until_counted(("handed_back_total", *labels))
    assert found["retries_total", *labels] == 0


@on_databases
@pytest.mark.usefixtures("ends_cleanly")
async def test_writers_and_the_bus_are_seen(configure: Configure, store: str) -> None:
    """Writes that wait for their commit, writes that were made, and watchers."""
    configure(metrics_enabled=True)

    @task(name="m.one")
    async def one() -> None: ...

    handle = await one.aenqueue()
    await final(handle)
    async with host.bus().subscribe("task:x"):
        found = samples()
    writers = (
        ["rail-tasks-intake"] if store == "sqlite" else ["rail-tasks-intake", "rail-tasks-outcomes"]
    )
    for writer in writers:
        assert found["writer_backlog", writer] >= 0
        assert found["writer_failing_seconds", writer] == 0
        assert found["writer_batches_total", writer] >= 1
        assert found["writer_changes_total", writer] >= found["writer_batches_total", writer]
    assert found["bus_subscribers",] == 1
    assert found["bus_published_total",] >= 2
    assert (found["leaked",], found["recovered_total",], found["leases_lost_total",]) == (0, 0, 0)


@in_memory
@pytest.mark.usefixtures("ends_cleanly")
async def test_callers_cannot_make_up_series(configure: Configure) -> None:
    """Undeclared tasks and unknown queues are counted as `(other)`."""
    configure(metrics_enabled=True)

    @task(name="m.known")
    async def known() -> None: ...

    handle = await known.using(delay=3600).aenqueue()
    metrics = module.get_metrics()
    counts = EventCounts([metrics])
    for number in range(50):
        counts.enqueued(replace(handle.snapshot, name=f"stray-{number}"))
        counts.enqueued(replace(handle.snapshot, queue=f"stray-{number}"))
    counts.count_now()
    found = {key: it for key, it in samples().items() if key[0] == "enqueued_total"}
    assert found == {
        ("enqueued_total", "m.known", "default"): 1,
        ("enqueued_total", "(other)", "default"): 50,
        ("enqueued_total", "m.known", "(other)"): 50,
    }
    assert len(metrics._series) == 3


@in_memory
async def test_switched_off_nothing_is_counted(configure: Configure) -> None:
    """Nor has it to be."""
    configure(metrics_enabled=False)
    assert count_by_metrics(get_settings()) is None
    configure(metrics_enabled=True)
    assert count_by_metrics(get_settings()) is module.get_metrics()


# --- where they are kept --------------------------------------------------------------------------


@in_memory
async def test_a_reload_registers_nothing_twice(configure: Configure) -> None:
    """The registry is our own, and as new as the module; the project's is left alone."""
    before = module.get_metrics()
    try:
        importlib.reload(module)
        assert module.get_metrics().registry is not before.registry
    finally:
        importlib.reload(module)
    assert b"rail_tasks" not in generate_latest(REGISTRY)


@in_memory
async def test_without_the_package_use_refuses(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, web: AsyncClient
) -> None:
    """With the words that install it; the URL answers 503 without these words."""
    configure(metrics_enabled=True)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    for name in ("metrics", "processes", "prometheus_library"):
        monkeypatch.delitem(sys.modules, f"rail_async_tasks.observability.{name}")
        monkeypatch.delattr(f"rail_async_tasks.observability.{name}")
    with pytest.raises(ConfigurationError, match=r'pip install "rail_async_tasks\[metrics\]"'):
        count_by_metrics(get_settings())
    response = await web.get("/tasks/metrics")
    assert response.status_code == 503
    assert b"pip" not in response.content


PROGRAM = """
import sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rail_async_tasks"],
    RAIL_DJANGO_GRAPHQL={"task_settings": {
        "backend": "thread", "track_in_database": False, "metrics_enabled": True}},
)
django.setup()
import prometheus_client
from rail_async_tasks import task
prometheus_client.Counter("of_the_project", "Not ours.").inc()
@task(name="m.shared")
def shared(): pass
@task(name="m.hold")
async def hold(info):
    info.context.task.update_progress(1)
    await __import__("asyncio").Event().wait()
from rail_async_tasks.observability.metrics import get_metrics
for line in sys.stdin:
    command, _, count = line.strip().partition(" ")
    if command == "run":
        for _ in range(int(count)):
            shared.enqueue().result(timeout=60)
    elif command == "hold":
        handle = hold.enqueue()
        while handle.refresh().status != "running" or not handle.snapshot.progress: pass
        get_metrics().page("")  # writes what others are to see
    if command == "page":
        print(get_metrics().page("")[0].decode())
    print("END", flush=True)
"""


class Steered:
    """A process that follows commands, and shares its metrics."""

    def __init__(self, folder: Path) -> None:
        env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
        env.pop("DJANGO_SETTINGS_MODULE", None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], env=env, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip

    def order(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(command, file=self._process.stdin, flush=True)
        lines = []
        while (line := self._process.stdout.readline()) != "END\n":
            assert line, "the process has ended"
            lines.append(line)
        return "".join(lines)

    def samples(self) -> Samples:
        return samples(self.order("page"))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=60)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Steered, Steered]]:
    """Two processes that share a folder."""
    both = Steered(tmp_path), Steered(tmp_path)
    yield both
    for it in both:
        it.kill()


@in_memory
def test_a_process_that_is_killed_leaves_all_it_has_counted(
    pair: tuple[Steered, Steered],
) -> None:
    """Also what happened a moment before: nothing that a folder shares waits to be counted."""
    one, two = pair
    one.order("run 2")
    one.kill()
    found = two.samples()
    assert found["finished_total", "m.shared", "default", "completed"] == 2


@in_memory
def test_processes_that_share_a_folder_are_one_page(pair: tuple[Steered, Steered]) -> None:
    """With `PROMETHEUS_MULTIPROC_DIR` each answers for both: one truth, whichever is asked.

    Counts are summed, gauges too, but for ages and delays, of which the highest counts. What a
    process has counted stays when it is killed; what it was doing then does not.
    """
    one, two = pair
    one.order("run 2")
    two.order("run 3")
    for it in pair:
        it.order("hold")
    labels = ("m.shared", "default")
    for it in pair:
        found = it.samples()
        assert found["enqueued_total", *labels] == 5
        assert found["finished_total", *labels, "completed"] == 5
        assert found["duration_seconds_count", *labels] == 5
        assert found["running", "m.hold", "default"] == 2
        assert found["leaked",] == 0
        assert 0 <= found["loop_lag_seconds",] < TIMEOUT
        # Rows in memory are each process's own.
        assert found["queue_depth", "default", "running"] == 1
    assert "of_the_project" not in one.order("page")
    two.kill()
    found = one.samples()
    assert found["finished_total", *labels, "completed"] == 5
    assert found["running", "m.hold", "default"] == 1


# --- the table ------------------------------------------------------------------------------------


@on_databases
@pytest.mark.usefixtures("ends_cleanly")
async def test_every_page_has_the_depths_of_the_table(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By queue and status, with the age of the oldest; queues of the settings are there when empty.

    Also in a process that runs nothing: one answers for all.
    """
    configure(metrics_enabled=True)
    monkeypatch.setattr(readings, "TABLE_SECONDS", 3600.0)

    @task(name="m.later", queue="low")
    async def later() -> None: ...

    await queues.apause("low")
    for _ in range(2):
        await later.aenqueue()
    await host.astop()
    old = datetime.now(UTC) - timedelta(hours=1)
    await TaskExecution.objects.filter(name="m.later").aupdate(created_at=old)
    found = samples()
    assert found["queue_depth", "low", "pending"] == 2
    assert found["queue_depth", "low", "running"] == 0
    assert 3600 <= found["queue_oldest_seconds", "low"] < 7200
    assert found["queue_depth", "high", "pending"] == 0
    assert found["queue_oldest_seconds", "high"] == 0
    # Read seldom: what came since is seen when the time has passed.
    await later.aenqueue()
    assert samples()["queue_depth", "low", "pending"] == 2
    monkeypatch.setattr(readings._table, "_again_at", 0.0)
    assert samples()["queue_depth", "low", "pending"] == 3
    await queues.aresume("low")
    await host.astop()


@pytest.mark.parametrize(
    "store", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
def test_the_depths_come_from_an_index(configure: Configure) -> None:
    """However many finished tasks there are."""
    at = datetime.now(UTC)

    def row(number: int, **fields: Any) -> TaskExecution:
        return TaskExecution(name="m.x", queue="default", created_at=at, updated_at=at, **fields)

    rows = [row(n, status="completed", completed_at=at) for n in range(20_000)]
    rows += [row(n, status="pending") for n in range(50)]
    TaskExecution.objects.bulk_create(rows, batch_size=2000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE rail_async_tasks_execution")
    with CaptureQueriesContext(connection) as seen:
        (counts,) = host.ledger().queue_counts()
    assert (counts.pending, counts.running) == (50, 0)
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + next(it["sql"] for it in seen if "GROUP BY" in it["sql"]))
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan" not in plan, plan
    assert "rat_status_newest" in plan, plan


@on_databases
@pytest.mark.usefixtures("ends_cleanly")
async def test_a_database_that_fails_leaves_the_depths_out(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The page has the rest, and the log the reason."""
    configure(metrics_enabled=True)

    def fail() -> None:
        raise OperationalError("away")

    monkeypatch.setattr(host.ledger(), "queue_counts", fail)
    monkeypatch.setattr(readings, "_table", readings._Table())
    found = samples()
    assert not any(key[0] == "queue_depth" for key in found)
    assert ("bus_subscribers",) in found
    assert "The metrics lack the depths of queues" in caplog.text


# --- the process ----------------------------------------------------------------------------------


@on_databases
@pytest.mark.usefixtures("ends_cleanly")
async def test_the_loop_and_the_lease_are_gauged(configure: Configure) -> None:
    """How late the loop was, how old the lease is and how old it may become."""
    configure(metrics_enabled=True, lease_seconds=600)
    runtime = await host.aruntime()
    await eventually(lambda: runtime.holding)
    watchdog = runtime.services.watchdog

    async def is_remembered() -> bool:
        time.sleep(0.4)  # noqa: ASYNC251 (what is measured)
        await asyncio.sleep(0.01)
        return watchdog._answered and samples()["loop_lag_seconds",] >= 0.2

    await eventually(is_remembered)
    found = samples()
    assert found["loop_lag_seconds",] < TIMEOUT
    assert found["lease_length_seconds",] == 600
    assert 0 <= found["lease_age_seconds",] < 600


@on_databases
@pytest.mark.usefixtures("ends_cleanly")
async def test_attempts_that_died_with_their_process_are_counted(configure: Configure) -> None:
    """By task, by the process that recovers them: those that run again, and those that do not."""
    configure(metrics_enabled=True, max_crashes=1)
    runtime = await host.aruntime()

    @task(name="m.poison", queue="low")
    async def poison() -> None: ...

    dead = new_id()
    for crashes in (0, 1):
        handle = await poison.using(delay=3600).aenqueue()
        await TaskExecution.objects.filter(id=handle.id).aupdate(
            status="running", run_after=None, attempts=1, runtime_id=dead, token=new_id(),
            crashes=crashes,
        )  # fmt: skip
    assert runtime.recoverer is not None
    runtime.recoverer.recover(frozenset({dead}))
    await until_counted(("crashes_total", "m.poison", "low"), value=2)
    await until_counted(("finished_total", "m.poison", "low", "failed"))
    await until_counted(("recovered_total",), value=2)


# --- who may see them -----------------------------------------------------------------------------


def person(**flags: Any) -> Client:
    """A user who is logged in. `right` gives them the permission to view tasks."""
    right = flags.pop("right", False)
    user = User.objects.create_user("someone", **flags)
    if right:
        user.user_permissions.add(Permission.objects.get(codename="view_taskexecution"))
    client = Client()
    client.force_login(user)
    return client


WHO = [
    ({"is_superuser": True}, 200),
    ({"is_staff": True}, 200),
    ({"right": True}, 200),
    ({}, 403),
]


@on_databases
@pytest.mark.parametrize(("flags", "status"), WHO)
def test_staff_and_users_with_the_right_may_see_them(
    configure: Configure, flags: dict[str, Any], status: int
) -> None:
    """Others get 401 or 403, without data."""
    configure(metrics_enabled=True)
    response = person(**flags).get("/tasks/metrics")
    assert response.status_code == status
    if status == 200:
        assert response["Content-Type"].startswith("text/plain; version=")
        assert b"# TYPE rail_tasks_enqueued_total counter" in response.content
        assert "no-store" in response["Cache-Control"]
    else:
        assert response.json()["error"]["code"] == "FORBIDDEN"
        assert b"rail_tasks" not in response.content


@on_databases
@pytest.mark.parametrize(("flags", "status"), WHO)
def test_a_bearer_is_let_in_by_the_same_rule(
    configure: Configure, flags: dict[str, Any], status: int
) -> None:
    """A scraper has a token. A bad one is refused, whatever session it comes with."""
    key = "only for tests, and more than 32 bytes"
    configure(metrics_enabled=True, jwt={"key": key, "algorithms": ["HS256"]})
    client = person(**flags)
    claims = {"sub": str(User.objects.get().pk), "exp": time.time() + 3600}
    good = jwt.encode(claims, key, "HS256")
    bad = jwt.encode(claims, key[::-1], "HS256")
    for sender, token, expected in (
        (Client(), good, status), (Client(), bad, 401), (client, bad, 401),
    ):  # fmt: skip
        response = sender.get("/tasks/metrics", headers={"authorization": f"Bearer {token}"})
        assert response.status_code == expected


@on_databases
def test_an_inactive_user_may_not(configure: Configure) -> None:
    """Deactivated staff are anonymous."""
    configure(metrics_enabled=True)
    client = person(is_staff=True)
    User.objects.update(is_active=False)
    assert client.get("/tasks/metrics").status_code == 401


@in_memory
async def test_an_anonymous_caller_may_not(configure: Configure, web: AsyncClient) -> None:
    """401, and how to say who one is; with and without the slash."""
    configure(metrics_enabled=True)
    for path in ("/tasks/metrics", "/tasks/metrics/"):
        response = await web.get(path)
        assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")
        assert response.json()["error"]["code"] == "UNAUTHENTICATED"
    assert (await web.post("/tasks/metrics")).status_code == 405


@on_databases
async def test_disabled_there_are_none(configure: Configure, web: AsyncClient) -> None:
    """404 for every user."""
    assert (await web.get("/tasks/metrics")).status_code == 404
    staff = await sync_to_async(person)(is_superuser=True)
    assert (await sync_to_async(staff.get)("/tasks/metrics")).status_code == 404


@on_databases
def test_openmetrics_for_who_asks_for_it(configure: Configure) -> None:
    """The format that a scraper prefers."""
    configure(metrics_enabled=True)
    accept = {"accept": "application/openmetrics-text;version=1.0.0"}
    response = person(is_staff=True).get("/tasks/metrics", headers=accept)
    assert response["Content-Type"].startswith("application/openmetrics-text")
    assert response.content.endswith(b"# EOF\n")
