"""Every ledger: what may be deleted goes, in batches, and nothing else ever does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction

from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.records import Disposal, Page
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import FINAL, UNFINISHED, Status
from tests.contract.conftest import ON_MARIADB, ON_POSTGRES
from tests.projects.accounts.models import Receipt
from tests.support.ledgers import Kit
from tests.support.waiting import TIMEOUT

HOUR = 3600.0
NOW = Disposal(age=0.0)


End = tuple[Status, float | None]  # the state, and the time until it expires
DONE: End = (Status.COMPLETED, None)
EXPIRED: End = (Status.COMPLETED, -1.0)


async def ended(kit: Kit, *ends: End) -> list[UUID]:
    """Finished rows, a `ttl` below 0 for those that have expired."""
    # All are there before the first expires: memory lets go of that when a row is created.
    rows = [await kit.running() for _ in ends]
    for claimed, (status, ttl) in zip(rows, ends, strict=True):
        if status is Status.CANCELLED:
            await kit.cancel(claimed.snapshot.id)
        assert await kit.settle(claimed, status, ttl=ttl) is not None
    return [claimed.snapshot.id for claimed in rows]


async def left(kit: Kit) -> set[UUID]:
    """The rows that still exist, hidden or not."""
    if isinstance(kit.ledger, MemoryLedger):
        return set(kit.ledger.store.rows)
    return set(await kit.here(lambda: list(TaskExecution.objects.values_list("id", flat=True))))


async def age(kit: Kit, execution_id: UUID, seconds: float) -> None:
    """Sets the row's end to so long ago."""
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    if isinstance(kit.ledger, MemoryLedger):
        row = kit.ledger.store.rows[execution_id]
        row.snapshot = msgspec.structs.replace(row.snapshot, completed_at=at)
        return
    rows = TaskExecution.objects.filter(id=execution_id)
    await kit.here(lambda: rows.update(completed_at=at))


async def test_what_has_expired_is_deleted_in_batches(kit: Kit) -> None:
    """At most so many at a time; 0 when there is no more."""
    waiting = await kit.waiting()
    rows = await ended(kit, *[EXPIRED] * 5, (Status.COMPLETED, HOUR), DONE)
    alive = {waiting, *rows[5:]}
    assert await left(kit) == alive | set(rows)
    assert [await kit.ledger.delete_expired(2) for _ in range(4)] == [2, 2, 1, 0]
    assert await left(kit) == alive


async def test_what_expired_first_goes_first(kit: Kit) -> None:
    """So that a backlog shrinks from its old end."""
    newer, _ = await ended(kit, EXPIRED, (Status.FAILED, -HOUR))
    assert await kit.ledger.delete_expired(1) == 1
    assert await left(kit) == {newer}


@pytest.mark.parametrize("status", sorted(UNFINISHED))
async def test_an_unfinished_row_is_never_deleted(kit: Kit, status: Status) -> None:
    """Whatever is asked for."""
    claimed = await kit.in_state(status)
    everything = Disposal(age=0.0, statuses=frozenset(Status))
    assert await kit.here(kit.ledger.count_disposable, everything) == 0
    assert await kit.here(kit.ledger.dispose, everything, 10) == 0
    assert await kit.ledger.delete_expired(10) == 0
    assert await left(kit) == {claimed.snapshot.id}


async def test_old_rows_are_deleted_by_their_end(kit: Kit) -> None:
    """Older and expired rows go; a newer one stays, and one that never expires."""
    old, new, _ = await ended(kit, DONE, DONE, EXPIRED)
    await age(kit, old, 2 * HOUR)
    which = Disposal(age=HOUR)
    assert await kit.here(kit.ledger.count_disposable, which) == 2
    assert await kit.here(kit.ledger.dispose, which, 10) == 2
    assert await left(kit) == {new}


async def test_a_row_both_old_and_expired_counts_once(kit: Kit) -> None:
    """In the count as in the deletion."""
    (row,) = await ended(kit, EXPIRED)
    await age(kit, row, 2 * HOUR)
    assert await kit.here(kit.ledger.count_disposable, Disposal(age=HOUR)) == 1
    assert await kit.here(kit.ledger.dispose, Disposal(age=HOUR), 10) == 1


async def test_age_zero_takes_all_that_has_ended(kit: Kit) -> None:
    """Also what ended a moment ago."""
    await ended(kit, *((status, None) for status in sorted(FINAL)))
    assert await kit.here(kit.ledger.dispose, NOW, 2) == 2
    assert await kit.here(kit.ledger.dispose, NOW, 2) == 1
    assert await left(kit) == set()


@pytest.mark.parametrize("status", sorted(FINAL))
async def test_statuses_narrow_both(kit: Kit, status: Status) -> None:
    """Old rows and expired rows."""
    ends = [(it, ttl) for it in sorted(FINAL) for ttl in (None, -1.0)]
    rows = dict(zip(ends, await ended(kit, *ends), strict=True))
    which = Disposal(age=0.0, statuses=frozenset({status}))
    assert await kit.here(kit.ledger.count_disposable, which) == 2
    assert await kit.here(kit.ledger.dispose, which, 10) == 2
    assert await left(kit) == {row for (it, _), row in rows.items() if it is not status}


@pytest.mark.parametrize("ledger_kind", [ON_POSTGRES, ON_MARIADB], indirect=True)
async def test_rows_that_another_process_is_deleting_are_left_to_it(kit: Kit) -> None:
    """Without waiting: two processes that clean up share the work."""
    rows = await ended(kit, *[EXPIRED] * 4)
    locked, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        with transaction.atomic():
            list(TaskExecution.objects.select_for_update().filter(id__in=rows[:3]))
            loop.call_soon_threadsafe(locked.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(2 * TIMEOUT)
        connection.close()

    holding = asyncio.ensure_future(sync_to_async(hold, thread_sensitive=False)())
    await locked.wait()
    assert await asyncio.wait_for(kit.ledger.delete_expired(10), TIMEOUT) == 1
    release.set()
    await holding
    assert await left(kit) == set(rows[:3])


async def test_memory_forgets_what_was_deleted(kit: Kit) -> None:
    """Its id is unknown, and its place on the pages is gone."""
    (gone,) = await ended(kit, DONE)
    assert await kit.here(kit.ledger.dispose, NOW, 10) == 1
    assert await kit.here(kit.ledger.get, gone) is None
    assert await kit.here(kit.ledger.arguments, gone) is None
    assert await kit.here(kit.ledger.page, Page(limit=10, everyone=True)) == []


async def test_what_an_owner_has_changed_lately(kit: Kit) -> None:
    """All of that owner's, in every tenant, in order of the change; no other owner's."""
    first = await kit.waiting(owner_id="1")
    second = await kit.running(owner_id="1", tenant_id="t")
    await kit.waiting(owner_id="2")
    await kit.waiting()
    await kit.cancel(first)
    found = await kit.ledger.changed_lately(["1", "3"], 600)
    assert [(it.id, it.status) for it in found] == [
        (second.snapshot.id, "running"), (first, "cancelled"),
    ]  # fmt: skip
    assert await kit.ledger.changed_lately(["1"], -600) == []
    assert await kit.ledger.changed_lately(["3"], 600) == []


async def test_what_an_owner_has_that_ended_lately(kit: Kit) -> None:
    """Ids of that owner's alone, within the tenant; nothing that is unfinished."""
    done = await kit.in_state(Status.COMPLETED, owner_id="1")
    await kit.in_state(Status.COMPLETED, owner_id="1", tenant_id="t")
    await kit.in_state(Status.COMPLETED, owner_id="2")
    await kit.in_state(Status.COMPLETED)
    await kit.running(owner_id="1")
    cancelled = await kit.waiting(owner_id="1")
    await kit.cancel(cancelled)
    ended = kit.ledger.ended_lately
    assert set(await kit.here(ended, "1", None, 600)) == {done.snapshot.id, cancelled}
    assert len(await kit.here(ended, "1", "t", 600)) == 1
    assert await kit.here(ended, "1", None, -600) == []


async def test_states_of_the_writers(kit: Kit) -> None:
    """Writes are counted; nothing waits and nothing fails. Memory has no writers."""
    await kit.waiting()
    await kit.here(kit.ledger.ping)
    writers = kit.ledger.writers()
    states = () if writers is None else writers.states()
    assert len(states) == {"memory": 0, "sqlite": 1, "postgres": 2, "mariadb": 2}[kit.kind]
    assert all((it.failing_for, it.backlog, it.congested) == (None, 0, False) for it in states)
    assert sum(it.written for it in states) == (1 if states else 0)


async def test_a_row_that_the_project_protects_holds_up_no_other(kit: Kit) -> None:
    """The clean-up and the command pass over it, at each round, until nothing refers to it."""
    if isinstance(kit.ledger, MemoryLedger):
        return
    ids = await ended(kit, EXPIRED, EXPIRED, EXPIRED)
    await kit.here(lambda: Receipt.objects.create(execution_id=ids[0]))
    assert await kit.ledger.delete_expired(1) == 1
    assert await kit.here(lambda: kit.ledger.count_disposable(NOW)) == 1
    assert await kit.here(lambda: kit.ledger.dispose(NOW, 10)) == 1
    assert await kit.ledger.delete_expired(10) == 0
    assert await left(kit) == {ids[0]}
    await kit.here(lambda: Receipt.objects.all().delete())
    assert await kit.ledger.delete_expired(10) == 1
