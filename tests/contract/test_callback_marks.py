"""The ledger in a database: the mark by which a failure callback is made at least once."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.ledger.records import Disposal, Recovery
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import Status
from tests.contract.conftest import ON_SQL
from tests.support.ledgers import NAME, Kit, outcome_of

on_sql = pytest.mark.parametrize("ledger_kind", ON_SQL, indirect=True)
pytestmark = on_sql

DONE, FAIL, CANC, RET = Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.RETRYING
HOLD = 60.0


async def mark_of(execution_id: UUID) -> datetime | None:
    row = await TaskExecution.objects.aget(id=execution_id)
    return row.callback_at


async def marked(kit: Kit, hold: float = HOLD) -> UUID:
    """A row that has failed, whose call is due in so many seconds."""
    claimed = await kit.running()
    await kit.settle(claimed, FAIL, callback=hold, error="no", traceback="there")
    return claimed.snapshot.id


async def overdue(kit: Kit, limit: int = 100, besides: tuple[UUID, ...] = ()) -> set[UUID]:
    found = await kit.callbacks.take_overdue(HOLD, limit, besides)
    return {snapshot.id for snapshot, _ in found}


@pytest.mark.parametrize("status", [DONE, FAIL, CANC, RET])
async def test_an_outcome_marks_what_has_failed_for_good(kit: Kit, status: Status) -> None:
    """For so many seconds from then; nothing else, and nothing where no callback is asked for."""
    claimed = await kit.running()
    if status is CANC:
        await kit.cancel(claimed.snapshot.id)
    await kit.settle(claimed, FAIL if status is CANC else status, callback=HOLD)
    mark = await mark_of(claimed.snapshot.id)
    assert (mark is not None) == (status is FAIL)
    if mark is not None:
        row = await kit.get(claimed.snapshot.id)
        assert row.completed_at is not None
        assert abs(mark - row.completed_at - timedelta(seconds=HOLD)) < timedelta(seconds=0.01)
    silent = await kit.running()
    await kit.settle(silent, status)
    assert await mark_of(silent.snapshot.id) is None


async def test_inline_marks_too(kit: Kit) -> None:
    """In the caller's transaction, by the same rule; and takes the mark away."""
    claimed = await kit.running()
    await kit.here(kit.ledger.settle_here, outcome_of(claimed, FAIL, callback=HOLD))
    assert await mark_of(claimed.snapshot.id) is not None
    await kit.here(kit.callbacks.made_here, claimed.snapshot.id)
    assert await mark_of(claimed.snapshot.id) is None


async def test_recovery_marks_what_it_fails(kit: Kit) -> None:
    """Not what is to run again, or was to be cancelled."""
    lost, again, cancelled = [await kit.running() for _ in range(3)]
    await TaskExecution.objects.filter(id=lost.snapshot.id).aupdate(crashes=2)
    await kit.cancel(cancelled.snapshot.id)
    gone = new_id()
    await TaskExecution.objects.aupdate(runtime_id=gone)
    freed = await kit.recoveries.recover(Recovery(gone, 2, None, HOLD), 10)
    assert {it.id: it.status for it in freed} == {
        lost.snapshot.id: FAIL, again.snapshot.id: RET, cancelled.snapshot.id: CANC,
    }  # fmt: skip
    assert [await mark_of(it.snapshot.id) is not None for it in (lost, again, cancelled)] == [
        True, False, False,
    ]  # fmt: skip


async def test_an_unknown_name_marks(kit: Kit) -> None:
    """A task that waits under it is failed, and its callback is called."""
    execution_id = await kit.waiting()
    (failed,) = await kit.recoveries.fail_unknown(NAME, None, HOLD, 10)
    assert failed.id == execution_id
    assert await mark_of(execution_id) is not None


async def test_what_is_overdue_is_had_by_one(kit: Kit) -> None:
    """Two processes that look at the same time share it: each call is one's, and then held."""
    ids = {await marked(kit, -1.0) for _ in range(20)}
    early = await marked(kit)
    other = OrmLedger()
    other.start()
    try:
        theirs = Kit(kit.kind, other)
        found = await asyncio.gather(
            *(overdue(it, limit=7) for it in (kit, theirs, kit, theirs, kit, theirs))
        )
        # PostgreSQL passes over what another has locked; then it comes to it in the next look.
        found += [await overdue(kit), await overdue(theirs)]
    finally:
        await other.stop()
    assert sum(map(len, found)) == len(ids)
    assert set().union(*found) == ids
    assert early not in ids
    assert all([(await mark_of(it) or datetime.min.replace(tzinfo=UTC)) > datetime.now(UTC)
                for it in ids])  # fmt: skip


async def test_it_comes_with_what_the_call_tells(kit: Kit) -> None:
    """The error and the traceback, also of a hidden task."""
    claimed = await kit.running()
    await kit.settle(claimed, FAIL, callback=-1.0, error="no", traceback="there", ttl=-1.0)
    assert await kit.here(kit.ledger.get, claimed.snapshot.id) is None
    ((snapshot, traceback),) = await kit.callbacks.take_overdue(HOLD, 10, ())
    assert (snapshot.id, snapshot.error, traceback) == (claimed.snapshot.id, "no", "there")


async def test_limit_and_besides(kit: Kit) -> None:
    """At most so many, those that have waited longest; and not one's own."""
    first, second, third = [await marked(kit, -30.0 + n) for n in range(3)]
    assert await overdue(kit, limit=1, besides=(first,)) == {second}
    assert await overdue(kit, besides=(first,)) == {third}
    assert await overdue(kit) == {first}
    assert await overdue(kit) == set()


async def test_keeping_pushes_ahead_and_revives_nothing(kit: Kit) -> None:
    """A mark that was taken away stays so; a row that is gone does not mind."""
    late, made, gone = [await marked(kit, -1.0) for _ in range(3)]
    await kit.callbacks.made([made])
    await TaskExecution.objects.filter(id=gone).adelete()
    await kit.callbacks.keep([late, made, gone], HOLD)
    assert await overdue(kit) == set()
    mark = await mark_of(late)
    assert mark is not None
    assert mark > datetime.now(UTC)
    assert await mark_of(made) is None
    await kit.callbacks.made([late, made, gone])
    assert await mark_of(late) is None


@pytest.mark.parametrize("ledger_options", [LedgerOptions(callbacks=True)])
async def test_a_marked_row_is_not_deleted_while_there_are_callbacks(kit: Kit) -> None:
    """With callbacks switched off no process will make the call: then it may go."""
    claimed = await kit.running()
    await kit.settle(claimed, FAIL, callback=HOLD, ttl=-1.0)
    assert await kit.ledger.delete_expired(10) == 0
    assert await kit.here(kit.ledger.count_disposable, Disposal(age=0.0)) == 0
    assert await kit.here(kit.ledger.dispose, Disposal(age=0.0), 10) == 0
    without = OrmLedger()
    without.start()
    try:
        assert await without.delete_expired(10) == 1
    finally:
        await without.stop()


async def test_a_locked_row_holds_up_no_look(kit: Kit) -> None:
    """On PostgreSQL it is passed over: the writer's thread must not wait for a stranger."""
    if kit.kind == "sqlite":
        return  # which locks no rows
    first, second = await marked(kit, -2.0), await marked(kit, -1.0)
    locked, over = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                assert TaskExecution.objects.select_for_update().get(id=first)
                locked.set()
                over.wait(20)
        finally:
            connection.close()

    holder = asyncio.ensure_future(asyncio.to_thread(hold))
    await asyncio.to_thread(locked.wait, 20)
    try:
        assert await asyncio.wait_for(overdue(kit), 10) == {second}
    finally:
        over.set()
        await holder
    assert await overdue(kit) == {first}
