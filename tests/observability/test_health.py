"""`live` and `ready`: the answers to probes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import OperationalError
from django.test import AsyncClient, Client

from rail_async_tasks import health, queues, roles, task
from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.ledger.session import WriterSession
from rail_async_tasks.ledger.writer import HIGH_WATER
from rail_async_tasks.models import TaskRuntime
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.waiting import TIMEOUT, eventually, until_status, wait_for

pytestmark = pytest.mark.turns("store")
LIVE, READY = "/tasks/health/live", "/tasks/health/ready"
ALL_WELL = {"runtime": "ok", "database": "ok", "bus": "ok", "writer": "ok"}


@pytest.fixture(autouse=True)
def a_new_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """None that an earlier test has left hanging; it waits longer than a busy machine takes."""
    monkeypatch.setattr(health, "_database", health._Database())
    for name in ("DATABASE_TIMEOUT", "LOOP_TIMEOUT"):
        monkeypatch.setattr(health, name, TIMEOUT)


@task(name="h.hang")
async def hang() -> None:
    await asyncio.Event().wait()


# --- all is well ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("ends_cleanly", "loop_kind")
async def test_a_process_that_runs_tasks_is_live_and_ready(
    configure: Configure, web: AsyncClient
) -> None:
    """JSON, not to be cached, for anybody; with and without the slash."""
    await host.aruntime()
    for slash in ("", "/"):
        response = await web.get(LIVE + slash)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
        assert "no-store" in response["Cache-Control"]
        response = await web.get(READY + slash)
        assert (response.status_code, response.json()) == (
            200, {"status": "ok", "checks": ALL_WELL},
        )  # fmt: skip
        assert "no-store" in response["Cache-Control"]
        assert response["Content-Type"] == "application/json"


class Broker(BrokerBackend):
    """Takes everything, and brings nothing."""

    async def push(self, dispatches: object) -> None: ...


@on_databases
@pytest.mark.usefixtures("ends_cleanly")
async def test_a_lack_of_workers_is_a_warning(
    configure: Configure, web: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the backend needs them. The web process itself takes tasks all the same."""
    monkeypatch.setattr(roles, "_role", roles.Role.WEB)  # an earlier test may have had a delivery
    configure(backend=f"{__name__}.Broker")
    await host.aruntime()
    rows = TaskRuntime.objects.filter(role="web", dead=False)
    await eventually(rows.aexists)
    response = await web.get(READY)
    assert response.status_code == 200
    assert response.json()["warnings"] == {"workers": "none is alive: tasks wait until one starts"}
    await rows.aupdate(role="worker")
    assert "warnings" not in (await web.get(READY)).json()


@pytest.mark.usefixtures("ends_cleanly")
async def test_paused_queues_are_shown(configure: Configure, web: AsyncClient) -> None:
    """The process stays ready: the pause is an operator's wish."""
    runtime = await host.aruntime()
    await queues.apause("low")
    await eventually(lambda: runtime.paused_queues)
    response = await web.get(READY)
    assert response.status_code == 200
    assert response.json()["paused_queues"] == ["low"]
    await queues.aresume("low")


@pytest.mark.usefixtures("configure")
def test_under_wsgi_the_database_decides() -> None:
    """No runtime is hosted there before the first task; Django's sync client is that path."""
    client = Client()
    assert host.hosted() is None
    assert client.get(LIVE).json() == {"status": "ok"}
    assert client.get(READY).json() == {"status": "ok", "checks": ALL_WELL}
    assert host.hosted() is None


@in_memory
@pytest.mark.usefixtures("configure")
@pytest.mark.parametrize("path", [LIVE, READY])
def test_only_get_and_head(path: str) -> None:
    """A probe changes nothing. 405 comes before the CSRF check."""
    client = Client(enforce_csrf_checks=True)
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        response = client.generic(method, path)
        assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")


@pytest.mark.usefixtures("configure")
def test_a_loop_thread_that_turns_is_live(configure: Configure) -> None:
    """The runtime's loop is asked, not the one that the request came in by."""
    configure(backend="thread")
    host.runtime_in_thread()
    assert Client().get(LIVE).status_code == 200
    assert Client().get(READY).json()["checks"] == ALL_WELL


@in_memory
@pytest.mark.usefixtures("ends_cleanly")
async def test_disabled_tasks_do_not_take_the_site_down(
    configure: Configure, web: AsyncClient
) -> None:
    """The rest of the project is served all the same."""
    configure(enabled=False)
    assert (await web.get(LIVE)).status_code == 200
    assert (await web.get(READY)).status_code == 200


# --- something is wrong ---------------------------------------------------------------------------


def answer(response: Any) -> dict[str, str]:
    """Returns the reasons that an answer gives."""
    assert response.status_code == 503
    body = response.json()
    assert body.pop("status") == "unavailable"
    checks: dict[str, str] = body.pop("checks")
    assert body == {}
    return {name: said for name, said in checks.items() if said != "ok"}


@contextmanager
def gone() -> Iterator[None]:
    """The database does not answer; the driver's error has its password."""
    config = connections.settings["default"]
    before = dict(config)
    if connection.vendor == "sqlite":
        config["NAME"] = "/nowhere/hunter2/db.sqlite3"
    else:
        config.update(HOST="127.0.0.1", PORT="1", PASSWORD="hunter2")
    try:
        yield
    finally:
        config.clear()
        config.update(before)


@on_databases
@pytest.mark.usefixtures("configure")
def test_without_its_database_it_is_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    """It is live: a restart would not help. What the driver says is for the log alone."""
    with gone():
        response = Client().get(READY)
        assert Client().get(LIVE).status_code == 200
    assert answer(response) == {"database": "failing"}
    assert b"hunter2" not in response.content
    assert any("the database fails" in it.getMessage() for it in caplog.records)
    assert Client().get(READY).status_code == 200


@on_databases
@pytest.mark.usefixtures("configure")
def test_a_database_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bounded time; one thread hangs, not one for each probe; then it is asked anew."""
    monkeypatch.setattr(health, "DATABASE_TIMEOUT", 0.05)
    monkeypatch.setattr(health, "DATABASE_GIVEN_UP", 3600.0)
    wait_for(lambda: asking() == 0)
    hold, let_go = threading.Event(), threading.Event()
    original = BaseDatabaseWrapper.cursor

    def slow(self: Any) -> Any:
        if threading.current_thread().name == "rail-tasks-health":
            hold.wait(2 * TIMEOUT)
            let_go.set()
        return original(self)

    monkeypatch.setattr(BaseDatabaseWrapper, "cursor", slow)
    for _ in range(3):
        assert answer(Client().get(READY)) == {"database": "no answer in 0.05 s"}
        assert not let_go.is_set()
    assert asking() == 1
    monkeypatch.setattr(health, "DATABASE_GIVEN_UP", 0.0)
    assert answer(Client().get(READY)) == {"database": "no answer in 0.05 s"}
    assert asking() == 2
    hold.set()
    monkeypatch.setattr(health, "DATABASE_TIMEOUT", TIMEOUT)
    assert Client().get(READY).status_code == 200
    wait_for(lambda: asking() == 0)


def asking() -> int:
    return sum(thread.name == "rail-tasks-health" for thread in threading.enumerate())


@on_databases
@pytest.mark.usefixtures("ends_cleanly")
async def test_a_writer_that_falls_behind(configure: Configure, web: AsyncClient) -> None:
    """Past its high-water mark work that comes in would wait: it goes elsewhere meanwhile."""
    runtime = await host.aruntime()
    writer = runtime.ledger.intake  # type: ignore[attr-defined]
    writer._pending += HIGH_WATER
    assert answer(await web.get(READY)) == {"writer": "behind"}
    writer._pending -= HIGH_WATER
    assert (await web.get(READY)).status_code == 200


@on_databases
@pytest.mark.usefixtures("ends_cleanly")
async def test_a_writer_without_a_database_says_so(
    configure: Configure, web: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task waits for its commit, and the process is not ready meanwhile."""
    runtime = await host.aruntime()

    def refuse(self: Any, batch: Any) -> Any:
        raise OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(WriterSession, "execute", refuse)
        creating = asyncio.ensure_future(hang.using(delay=3600).aenqueue())
        await eventually(
            lambda: any(it.failing_for is not None for it in runtime.ledger.writers().states())
        )
        assert answer(await web.get(READY)) == {"writer": "failing"}
        assert (await web.get(LIVE)).status_code == 200
    await creating
    await eventually(
        lambda: all(it.failing_for is None for it in runtime.ledger.writers().states())
    )
    assert (await web.get(READY)).status_code == 200


@in_memory
@pytest.mark.usefixtures("ends_cleanly")
async def test_a_bus_that_is_cut_off(
    configure: Configure, web: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Watchers here would learn of changes late."""
    monkeypatch.setattr(type(host.bus()), "connected", False)
    assert answer(await web.get(READY)) == {"bus": "not connected"}


@in_memory
async def test_a_draining_process_takes_nothing_more(
    configure: Configure, web: AsyncClient
) -> None:
    """503 from the signal on, while its tasks still run; it is live to the end."""
    configure(drain_seconds=600)
    handle = await hang.aenqueue()
    await until_status(handle, "running")
    server.begin_drain()  # what SIGTERM does
    await eventually(server.is_going_away)
    assert handle.id in host.current().attempts  # type: ignore[union-attr]
    assert answer(await web.get(READY)) == {"runtime": "draining"}
    assert (await web.get(LIVE)).json() == {"status": "ok"}
    await handle.acancel()
    await host.astop()
    assert answer(await web.get(READY)) == {"runtime": "draining"}
    assert (await web.get(LIVE)).status_code == 200
    server.reset()


@in_memory
async def test_a_runtime_that_broke_needs_a_restart(configure: Configure, web: AsyncClient) -> None:
    """Its host task has ended by itself: neither live nor ready."""
    runtime = await host.aruntime()
    assert runtime.state.host is not None
    runtime.state.host.cancel()
    await eventually(lambda: not runtime.alive)
    assert answer(await web.get(LIVE)) == {"runtime": "ended"}
    assert answer(await web.get(READY)) == {"runtime": "ended"}
    await host.astop()


@in_memory
@pytest.mark.usefixtures("configure")
def test_a_loop_that_hangs_needs_a_restart(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loop thread is stuck in a body that blocks."""
    monkeypatch.setattr(health, "LOOP_TIMEOUT", 0.05)
    configure(backend="thread")
    runtime = host.runtime_in_thread()
    hold = threading.Event()
    host.call_soon(runtime, lambda: bool(hold.wait(2 * TIMEOUT)) and None)
    assert answer(Client().get(LIVE)) == {"runtime": "no answer in 0.05 s"}
    hold.set()
    monkeypatch.setattr(health, "LOOP_TIMEOUT", TIMEOUT)
    assert Client().get(LIVE).status_code == 200


@on_databases
@pytest.mark.usefixtures("configure")
def test_live_reads_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away must not have every process restarted."""

    def refuse(self: Any) -> None:
        raise DatabaseError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse)
        patch.setattr(BaseDatabaseWrapper, "cursor", refuse)
        assert Client().get(LIVE).status_code == 200


@in_memory
@pytest.mark.usefixtures("ends_cleanly")
async def test_wrong_settings(configure: Configure, web: AsyncClient) -> None:
    """Not ready, and no word of what is wrong; live all the same."""
    configure(max_concurrency="hunter2")
    response = await web.get(READY)
    assert answer(response) == {"settings": "wrong"}
    assert b"hunter2" not in response.content
    assert (await web.get(LIVE)).status_code == 200
    configure()
