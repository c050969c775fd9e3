"""The background clean-up, and that what has expired is hidden long before it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from msgspec.structs import replace

from rail_async_tasks import TaskHandle, TaskNotFound, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.runtime.upkeep.cleanup import Cleaner, CleanupTimings
from tests.support.runtimes import Configure, on_databases
from tests.support.timings import Timings
from tests.support.waiting import eventually, final, no

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]


@task(name="c.one", priority=3)
async def one() -> int:
    return 1


async def expire(*handles: TaskHandle) -> None:
    """Has their time be over."""
    over = datetime.now(UTC) - timedelta(seconds=1)
    ids = [handle.id for handle in handles]
    ledger = host.ledger()
    if isinstance(ledger, MemoryLedger):
        for execution_id in ids:
            row = ledger.store.rows[execution_id]
            row.snapshot = replace(row.snapshot, expires_at=over)
        ledger.store.expiring[:] = [(over, execution_id) for execution_id in ids]
        return
    assert await TaskExecution.objects.filter(id__in=ids).aupdate(expires_at=over) == len(ids)


async def stored() -> set[UUID]:
    """All that is there, hidden or not."""
    ledger = host.ledger()
    if isinstance(ledger, MemoryLedger):
        return set(ledger.store.rows)
    return {it async for it in TaskExecution.objects.values_list("id", flat=True)}


async def finished(count: int = 1) -> list[TaskHandle]:
    handles = [await one.aenqueue() for _ in range(count)]
    for handle in handles:
        await final(handle)
    return handles


# --- hidden at once -------------------------------------------------------------------------------


async def test_what_has_expired_is_hidden_from_everybody(
    configure: Configure, web: AsyncClient
) -> None:
    """Every way to it says that there is no such task, byte for byte, and no list has it."""
    expired, alive = await finished(2)
    await expire(expired)
    for call in (service.aget, service.acancel, service.aretry):
        with pytest.raises(TaskNotFound):
            await call(SYSTEM, expired.id)
    for blocking in (service.get, service.cancel, service.retry):
        with pytest.raises(TaskNotFound):
            await sync_to_async(blocking)(SYSTEM, expired.id)
    with pytest.raises(TaskNotFound):
        async with aclosing(service.watch(SYSTEM, expired.id)) as snapshots:
            await anext(snapshots)
    with pytest.raises(TaskNotFound):
        await expired.arefresh()
    assert [it.id for it in await service.alist(SYSTEM)] == [alive.id]
    assert await stored() <= {expired.id, alive.id}  # nothing was made anew


OPERATIONS = [
    "query($id: ID!) { it: task(id: $id) { id } }",
    "mutation($id: ID!) { it: cancelTask(id: $id) { id } }",
    "mutation($id: ID!) { it: retryTask(id: $id) { taskId } }",
]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_graphql_cannot_tell_expired_from_missing(
    configure: Configure, web: AsyncClient, operation: str
) -> None:
    """The same bytes as for an id that never was one."""
    (expired,) = await finished()
    await expire(expired)
    answers = []
    for id_ in (str(expired.id), "01900000-0000-7000-8000-000000000000", "nonsense"):
        body = {"query": operation, "variables": {"id": id_}}
        response = await web.post("/graphql/", body, content_type="application/json")
        answers.append(response.content)
    assert len(set(answers)) == 1
    assert b"NOT_FOUND" in answers[0]


async def test_without_a_ttl_nothing_expires(configure: Configure) -> None:
    """`result_ttl_seconds: None`."""
    configure(result_ttl_seconds=None)
    (handle,) = await finished()
    assert (await handle.arefresh()).snapshot.expires_at is None
    await clean()
    assert await stored() == {handle.id}


async def test_the_ttl_counts_from_the_end(configure: Configure) -> None:
    """Of a cancelled task too; an unfinished one has no end."""
    configure(result_ttl_seconds=100)
    (handle,) = await finished()
    later = await one.using(delay=3600).aenqueue()
    assert later.snapshot.expires_at is None
    await later.acancel()
    for it in (handle, later):
        snapshot = (await it.arefresh()).snapshot
        assert snapshot.expires_at is not None
        assert snapshot.completed_at is not None
        kept = (snapshot.expires_at - snapshot.completed_at).total_seconds()
        assert kept == pytest.approx(100, abs=0.01)


# --- deleted later --------------------------------------------------------------------------------


QUICK = CleanupTimings(shortest_rest=0.001)


async def clean() -> None:
    await Cleaner(deletions=host.ledger(), batch=2, timings=QUICK).clean()


async def test_the_round_deletes_all_that_has_expired(
    configure: Configure,
) -> None:
    """In batches, until there is no more; nothing else goes."""
    handles = await finished(6)
    waiting = await one.using(delay=3600).aenqueue()
    await expire(*handles[:5])
    await clean()
    assert await stored() == {handles[5].id, waiting.id}


async def test_the_runtime_cleans_up_by_itself(configure: Configure, timings: Timings) -> None:
    """While it lives, and again and again."""
    timings.set("cleanup", interval=0.05)
    for _ in range(2):
        (handle,) = await finished()
        await expire(handle)
        await eventually(lambda: no(stored()))


@on_databases
async def test_two_runtimes_share_the_work(
    configure: Configure,
) -> None:
    """Each row is deleted, by one of them, and neither fails."""
    await expire(*await finished(30))
    other = OrmLedger()
    other.start()
    try:
        await asyncio.gather(clean(), Cleaner(deletions=other, batch=3, timings=QUICK).clean())
        await clean()  # what one has left to the other, which was in the middle of it
    finally:
        await other.stop()
    assert await stored() == set()
