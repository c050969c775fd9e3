"""Reserved failure callbacks: by `callback_at` each is made at least once."""

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
from tests.support.waiting import TIMEOUT

on_sql = pytest.mark.parametrize("ledger_kind", ON_SQL, indirect=True)
pytestmark = on_sql

DONE, FAIL, CANC, RET = Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.RETRYING
HOLD = 3600.0


async def reserved_until(execution_id: UUID) -> datetime | None:
    row = await TaskExecution.objects.aget(id=execution_id)
    return row.callback_at


async def reserved(kit: Kit, hold: float = HOLD) -> UUID:
    """A row that has failed, whose callback is overdue in so many seconds."""
    claimed = await kit.running()
    await kit.settle(claimed, FAIL, callback_hold=hold, error="no", traceback="there")
    return claimed.snapshot.id


async def overdue(kit: Kit, limit: int = 100, besides: tuple[UUID, ...] = ()) -> set[UUID]:
    found = await kit.callbacks.take_overdue(HOLD, limit, besides)
    return {snapshot.id for snapshot, _ in found}


@pytest.mark.parametrize("status", [DONE, FAIL, CANC, RET])
async def test_an_outcome_reserves_the_callback_of_a_failure(kit: Kit, status: Status) -> None:
    """For so many seconds from then; of no other state, and only if the outcome asks for it."""
    claimed = await kit.running()
    if status is CANC:
        await kit.cancel(claimed.snapshot.id)
    await kit.settle(claimed, FAIL if status is CANC else status, callback_hold=HOLD)
    until = await reserved_until(claimed.snapshot.id)
    assert (until is not None) == (status is FAIL)
    if until is not None:
        row = await kit.get(claimed.snapshot.id)
        assert row.completed_at is not None
        assert abs(until - row.completed_at - timedelta(seconds=HOLD)) < timedelta(seconds=0.01)
    silent = await kit.running()
    await kit.settle(silent, status)
    assert await reserved_until(silent.snapshot.id) is None


async def test_an_inline_outcome_reserves_too(kit: Kit) -> None:
    """In the caller's transaction, by the same rule; and marks the callback as made."""
    claimed = await kit.running()
    await kit.here(kit.ledger.settle_here, outcome_of(claimed, FAIL, callback_hold=HOLD))
    assert await reserved_until(claimed.snapshot.id) is not None
    await kit.here(kit.callbacks.made_here, claimed.snapshot.id)
    assert await reserved_until(claimed.snapshot.id) is None


async def test_recovery_reserves_callbacks_of_failures(kit: Kit) -> None:
    """Not of rows that are to run again, or that it cancels."""
    lost, again, cancelled = [await kit.running() for _ in range(3)]
    await TaskExecution.objects.filter(id=lost.snapshot.id).aupdate(crashes=2)
    await kit.cancel(cancelled.snapshot.id)
    gone = new_id()
    await TaskExecution.objects.aupdate(runtime_id=gone)
    freed = await kit.recoveries.recover(Recovery(gone, 2, None, HOLD), 10)
    assert {it.id: it.status for it in freed} == {
        lost.snapshot.id: FAIL, again.snapshot.id: RET, cancelled.snapshot.id: CANC,
    }  # fmt: skip
    untils = [await reserved_until(it.snapshot.id) for it in (lost, again, cancelled)]
    assert [it is not None for it in untils] == [True, False, False]


async def test_an_unknown_name_reserves_the_callback(kit: Kit) -> None:
    """The row fails, and its callback is due."""
    execution_id = await kit.waiting()
    (failed,) = await kit.recoveries.fail_unknown(NAME, None, HOLD, 10)
    assert failed.id == execution_id
    assert await reserved_until(execution_id) is not None


async def test_one_process_takes_each_overdue_callback(kit: Kit) -> None:
    """Two processes that take at the same time share the callbacks, and reserve them."""
    ids = {await reserved(kit, -1.0) for _ in range(20)}
    early = await reserved(kit)
    other = OrmLedger()
    other.start()
    try:
        theirs = Kit(kit.kind, other)
        found = await asyncio.gather(
            *(overdue(it, limit=7) for it in (kit, theirs, kit, theirs, kit, theirs))
        )
        # PostgreSQL skips rows that another process has locked; the next call takes them.
        found += [await overdue(kit), await overdue(theirs)]
    finally:
        await other.stop()
    assert sum(map(len, found)) == len(ids)
    assert set().union(*found) == ids
    assert early not in ids
    assert all([(await reserved_until(it) or datetime.min.replace(tzinfo=UTC)) > datetime.now(UTC)
                for it in ids])  # fmt: skip


async def test_an_overdue_callback_comes_with_its_error(kit: Kit) -> None:
    """And with its traceback, also of an expired row, which reads hide."""
    claimed = await kit.running()
    await kit.settle(claimed, FAIL, callback_hold=-1.0, error="no", traceback="there", ttl=-1.0)
    assert await kit.here(kit.ledger.get, claimed.snapshot.id) is None
    ((snapshot, traceback),) = await kit.callbacks.take_overdue(HOLD, 10, ())
    assert (snapshot.id, snapshot.error, traceback) == (claimed.snapshot.id, "no", "there")


async def test_limit_and_besides(kit: Kit) -> None:
    """At most so many, the longest overdue first; and not the caller's own."""
    first, second, third = [await reserved(kit, -30.0 + n) for n in range(3)]
    assert await overdue(kit, limit=1, besides=(first,)) == {second}
    assert await overdue(kit, besides=(first,)) == {third}
    assert await overdue(kit) == {first}
    assert await overdue(kit) == set()


async def test_keeping_pushes_ahead_and_revives_nothing(kit: Kit) -> None:
    """A callback that was made stays so; a deleted row changes nothing."""
    late, made, gone = [await reserved(kit, -1.0) for _ in range(3)]
    await kit.callbacks.made([made])
    await TaskExecution.objects.filter(id=gone).adelete()
    await kit.callbacks.keep([late, made, gone], HOLD)
    assert await overdue(kit) == set()
    until = await reserved_until(late)
    assert until is not None
    assert until > datetime.now(UTC)
    assert await reserved_until(made) is None
    await kit.callbacks.made([late, made, gone])
    assert await reserved_until(late) is None


@pytest.mark.parametrize("ledger_options", [LedgerOptions(callbacks=True)])
async def test_a_row_with_a_reserved_callback_is_not_deleted(kit: Kit) -> None:
    """With callbacks switched off no process will make the call: then it may go."""
    claimed = await kit.running()
    await kit.settle(claimed, FAIL, callback_hold=HOLD, ttl=-1.0)
    assert await kit.ledger.delete_expired(10) == 0
    assert await kit.here(kit.ledger.count_disposable, Disposal(age=0.0)) == 0
    assert await kit.here(kit.ledger.dispose, Disposal(age=0.0), 10) == 0
    without = OrmLedger()
    without.start()
    try:
        assert await without.delete_expired(10) == 1
    finally:
        await without.stop()


async def test_a_locked_row_holds_up_no_other(kit: Kit) -> None:
    """It is skipped: the writer's thread must not wait for another transaction."""
    if kit.kind == "sqlite":
        return  # which locks no rows
    first, second = await reserved(kit, -2.0), await reserved(kit, -1.0)
    locked, over = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                assert TaskExecution.objects.select_for_update().get(id=first)
                locked.set()
                over.wait(2 * TIMEOUT)
        finally:
            connection.close()

    holder = asyncio.ensure_future(asyncio.to_thread(hold))
    await asyncio.to_thread(locked.wait, TIMEOUT)
    try:
        assert await asyncio.wait_for(overdue(kit), TIMEOUT) == {second}
    finally:
        over.set()
        await holder
    assert await overdue(kit) == {first}
