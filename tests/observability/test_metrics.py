"""Prometheus metrics: what is counted, how it is labelled, and who may see it."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.test import AsyncClient, Client
from msgspec.structs import replace
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rail_async_tasks import ConfigurationError, Retry, queues, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process as host
from rail_async_tasks.observability import metrics as module
from rail_async_tasks.observability import observe_by_metrics
from rail_async_tasks.runtime import observers
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.waiting import eventually, final, until_status

pytestmark = pytest.mark.usefixtures("configure")

# In the order of a sample's key.
LABELS = ("task", "queue", "status", "writer", "le")
Samples = dict[tuple[str, ...], float]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from 0."""
    monkeypatch.setattr(module, "_metrics", None)
    monkeypatch.setattr(observers, "_known", None)


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
    assert 0.01 <= found["duration_seconds_sum", *labels] < 5
    assert 0 <= found["queue_wait_seconds_sum", *labels] < 5
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
async def test_nobody_can_make_up_series(configure: Configure) -> None:
    """Undeclared tasks and unknown queues are counted as `(other)`."""
    configure(metrics_enabled=True)

    @task(name="m.known")
    async def known() -> None: ...

    handle = await known.using(delay=3600).aenqueue()
    metrics = module.get_metrics()
    for number in range(50):
        metrics.enqueued(replace(handle.snapshot, name=f"stray-{number}"))
        metrics.enqueued(replace(handle.snapshot, queue=f"stray-{number}"))
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
    assert observe_by_metrics(get_settings()) is None
    configure(metrics_enabled=True)
    assert observe_by_metrics(get_settings()) is module.get_metrics()


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
        observe_by_metrics(get_settings())
    response = await web.get("/tasks/metrics")
    assert response.status_code == 503
    assert b"pip" not in response.content


PROGRAM = """
import asyncio, os, sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rail_async_tasks"],
    RAIL_DJANGO_GRAPHQL={"task_settings": {
        "backend": "sync", "track_in_database": False, "metrics_enabled": True}},
)
django.setup()
from rail_async_tasks import task
@task(name="m.shared")
async def shared(): pass
import prometheus_client
prometheus_client.Counter("of_the_project", "Not ours.").inc()
for _ in range(int(sys.argv[1])):
    shared.enqueue()
from rail_async_tasks.observability.metrics import get_metrics
print(get_metrics().page("")[0].decode())
"""


@in_memory
def test_processes_that_share_a_folder_count_together(tmp_path: Path) -> None:
    """With `PROMETHEUS_MULTIPROC_DIR` each process answers for all, and only for tasks."""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    env.pop("DJANGO_SETTINGS_MODULE", None)
    pages = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, count], env=env, check=True, text=True,
            stdout=subprocess.PIPE, timeout=60,
        ).stdout
        for count in ("2", "3")
    ]  # fmt: skip
    enqueued = [samples(page)["enqueued_total", "m.shared", "default"] for page in pages]
    assert enqueued == [2, 5]
    assert samples(pages[1])["duration_seconds_count", "m.shared", "default"] == 5
    assert "of_the_project" not in pages[1]
    assert "bus_subscribers" not in pages[1]


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
def test_staff_and_whoever_has_the_right_may_see_them(
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
    claims = {"sub": str(User.objects.get().pk), "exp": time.time() + 60}
    good = jwt.encode(claims, key, "HS256")
    bad = jwt.encode(claims, key[::-1], "HS256")
    for sender, token, expected in (
        (Client(), good, status), (Client(), bad, 401), (client, bad, 401),
    ):  # fmt: skip
        response = sender.get("/tasks/metrics", headers={"authorization": f"Bearer {token}"})
        assert response.status_code == expected


@on_databases
def test_somebody_who_left_may_not(configure: Configure) -> None:
    """Deactivated staff are anonymous."""
    configure(metrics_enabled=True)
    client = person(is_staff=True)
    User.objects.update(is_active=False)
    assert client.get("/tasks/metrics").status_code == 401


@in_memory
async def test_nobody_may_not(configure: Configure, web: AsyncClient) -> None:
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
