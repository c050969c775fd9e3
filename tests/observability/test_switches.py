"""Three settings that switch things off: `track_in_database`, `emit_subscriptions`, `enabled`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.test import AsyncClient
from msgspec.structs import replace

from rail_async_tasks import TaskHandle, TasksDisabled, service, task
from rail_async_tasks.access import SYSTEM, Viewer
from rail_async_tasks.checks import TAG
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]


@task(name="s.one")
async def one() -> int:
    return 1


# --- track_in_database ----------------------------------------------------------------------------


@on_databases
@pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])
async def test_untracked_rows_live_in_memory(configure: Configure, backend: str) -> None:
    """The task runs, and can be read and listed; the database has no row of it."""
    configure(track_in_database=False, backend=backend)
    handle = await one.aenqueue()
    assert (await final(handle)).result == 1
    assert isinstance(host.ledger(), MemoryLedger)
    assert [it.id for it in await service.alist(SYSTEM)] == [handle.id]
    assert await TaskExecution.objects.acount() == 0


@in_memory
@pytest.mark.parametrize("backend", ["arq", "celery", "dramatiq", "django_q"])
async def test_untracked_is_for_backends_in_this_process(
    configure: Configure, backend: str
) -> None:
    """A worker in another process would not find the rows: the check says so."""
    configure(track_in_database=False, backend=backend)
    errors = [it for it in run_checks(tags=[TAG]) if it.id == "rail_async_tasks.E009"]
    assert any("track_in_database" in it.msg for it in errors)
    configure(track_in_database=False)
    assert "rail_async_tasks.E009" not in [it.id for it in run_checks(tags=[TAG])]


# --- emit_subscriptions ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "thread"])
async def test_without_events_a_watcher_sees_what_rereading_shows(
    configure: Configure, backend: str
) -> None:
    """The state at its start, what it finds now and then, and always the end. Nothing is sent."""
    configure(emit_subscriptions=False, backend=backend)
    go = asyncio.Event()
    loop = asyncio.get_running_loop()

    @task(name="s.climb")
    async def climb(info: Any) -> str:
        info.context.task.update_progress(40, "half")
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go.wait(), loop))
        return "top"

    handle = await climb.aenqueue()
    seen: list[TaskSnapshot] = []
    async with asyncio.timeout(TIMEOUT), aclosing(service.watch(SYSTEM, handle.id)) as snapshots:
        async for snapshot in snapshots:
            seen.append(snapshot)
            if snapshot.progress == 40:
                go.set()
    assert seen[-1].status == "completed"
    assert 40 in [it.progress for it in seen]
    versions = [it.version for it in seen]
    assert versions == sorted(set(versions))


async def test_without_events_nothing_is_published(configure: Configure) -> None:
    """By what runs; without watchers nothing is read again either."""
    configure(emit_subscriptions=False)
    before = host.bus().statistics()["published"]
    await final_by_reading(await one.aenqueue())
    later = await one.using(delay=3600).aenqueue()
    await later.acancel()
    assert host.bus().statistics()["published"] == before


async def final_by_reading(handle: Any) -> None:
    async def is_final() -> bool:
        return bool((await handle.arefresh()).snapshot.is_final)

    await eventually(is_final)


@on_databases
@pytest.mark.parametrize("emit", [False, True])
async def test_all_that_an_owner_does_is_read_again(configure: Configure, emit: bool) -> None:
    """Changes without an event, such as those of another process, come a little later."""
    configure(emit_subscriptions=emit)
    ada = await User.objects.acreate(username="ada")
    mine = Viewer(str(ada.pk))
    waiting = await one.using(delay=3600, owner=ada).aenqueue()
    await host.aruntime()
    async with asyncio.timeout(TIMEOUT), aclosing(service.watch_mine(mine)) as snapshots:
        assert (await anext(snapshots)).id == waiting.id
        # Behind everybody's back.
        rows = TaskExecution.objects.filter(id=waiting.id)
        await sync_to_async(host.ledger().cancel)(waiting.id, None)
        assert await rows.values_list("status", flat=True).aget() == "cancelled"
        assert await next_of(snapshots, waiting.id) == "cancelled"
        new = await one.using(owner=ada).aenqueue()
        while (status := await next_of(snapshots, new.id)) != "completed":
            assert status in {"pending", "running"}


async def next_of(snapshots: AsyncGenerator[TaskSnapshot, None], execution_id: Any) -> str:
    async for snapshot in snapshots:
        if snapshot.id == execution_id:
            return snapshot.status
    raise AssertionError("The subscription has ended.")


# --- enabled --------------------------------------------------------------------------------------

OPERATIONS = [
    "{ tasks { id } }",
    '{ task(id: "01900000-0000-7000-8000-000000000000") { id } }',
    'mutation { cancelTask(id: "01900000-0000-7000-8000-000000000000") { id } }',
    'mutation { retryTask(id: "01900000-0000-7000-8000-000000000000") { taskId } }',
]


@in_memory
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_disabled_graphql_says_so(
    configure: Configure, web: AsyncClient, operation: str
) -> None:
    """Each operation has the code `TASKS_DISABLED`."""
    configure(enabled=False)
    body = {"query": operation}
    response = await web.post("/graphql/", body, content_type="application/json")
    (error,) = response.json()["errors"]
    assert error["extensions"]["code"] == "TASKS_DISABLED"


async def come_due(handle: TaskHandle) -> None:
    """Has the time of a delayed task come."""
    over = datetime.now(UTC) - timedelta(seconds=1)
    ledger = host.ledger()
    if isinstance(ledger, MemoryLedger):
        row = ledger.store.rows[handle.id]
        row.snapshot = replace(row.snapshot, run_after=over)
    else:
        await TaskExecution.objects.filter(id=handle.id).aupdate(run_after=over)


@pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])
async def test_disabled_nothing_is_stored_and_nothing_runs(
    configure: Configure, backend: str
) -> None:
    """Neither what is new nor what waits; the runtime does not start with the server."""
    waiting = await one.using(delay=3600).aenqueue()
    await host.astop()
    ledger = host.ledger()
    await come_due(waiting)
    configure(enabled=False, backend=backend)
    await server.startup()
    try:
        with pytest.raises(TasksDisabled):
            await one.aenqueue()
        with pytest.raises(TasksDisabled):
            await sync_to_async(one.enqueue)()
        for call in (service.aget, service.acancel, service.aretry):
            with pytest.raises(TasksDisabled):
                await call(SYSTEM, waiting.id)
        for stream in (service.watch(SYSTEM, waiting.id), service.watch_mine(SYSTEM)):
            with pytest.raises(TasksDisabled):
                await anext(stream)
        with pytest.raises(TasksDisabled):
            await service.alist(SYSTEM)
        assert host.hosted() is None
    finally:
        await server.shutdown()
        server.reset()
    snapshot = await sync_to_async(ledger.get)(waiting.id)
    assert snapshot is not None
    assert snapshot.status == "pending"
