"""Rows and keys that another transaction holds, on servers that lock rows.

What is not locked is changed at once, and what is locked is reported, or found by a later call. No
call waits in a writer's thread: every test holds its lock until the ledger has answered others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from django.db import connection, connections, transaction
from django.db.models import F

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger import batch
from rail_async_tasks.ledger.dispatch_records import DeliveryClaim
from rail_async_tasks.ledger.orm.leases import OrmLeases
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.ledger.records import Created, QueueClaim, Recovery, RowLocked
from rail_async_tasks.ledger.upkeep import Dispatches
from rail_async_tasks.models import TaskExecution, TaskRuntime, TaskSchedule
from rail_async_tasks.states import Status
from tests.contract.conftest import ON_MARIADB, ON_POSTGRES
from tests.services.locking import a_transaction, rows_locked
from tests.support.ledgers import NAME, Kit, Lanes, new_execution, outcome_of
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.parametrize("ledger_kind", [ON_POSTGRES, ON_MARIADB], indirect=True)

HOLD = 7200.0
T = TypeVar("T")


def dispatches(kit: Kit) -> Dispatches:
    found = kit.ledger.dispatches()
    assert found is not None
    return found


async def three(kit: Kit, **fields: Any) -> tuple[UUID, UUID, UUID]:
    """Waiting rows, in the order of their ids."""
    first, second, third = [await kit.waiting(**fields) for _ in range(3)]
    return first, second, third


async def in_a_thread(call: Callable[..., T], *args: Any) -> T:
    """Calls it in a thread of its own, whose connections are closed afterwards."""

    def run() -> T:
        try:
            return call(*args)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


async def stored(execution_id: UUID) -> TaskExecution:
    return await TaskExecution.objects.aget(id=execution_id)


# --- creations ------------------------------------------------------------------------------------


async def test_a_creation_waits_for_its_key_apart(kit: Kit) -> None:
    """Others are stored meanwhile, with and without a key; it is answered with what committed."""
    assert isinstance(kit.ledger, OrmLedger)
    ledger, first = kit.ledger, new_execution(unique_key="k")
    with a_transaction(lambda: ledger.create_here(first)) as over:
        waits = asyncio.ensure_future(kit.create(new_execution(unique_key="k")))
        for key in (None, "another", None):
            await asyncio.wait_for(kit.create(new_execution(unique_key=key)), TIMEOUT)
        assert not waits.done()
        assert ledger.intake.failing_since is None
        over.set()
        created = await asyncio.wait_for(waits, TIMEOUT)
    assert created.existing is not None
    assert created.existing.id == first.id


async def test_a_key_that_is_locked_holds_up_no_other_start_of_its_batch(kit: Kit) -> None:
    """The batch is refused as a whole; then each start is made by itself."""
    assert isinstance(kit.ledger, OrmLedger)
    ledger, first = kit.ledger, new_execution(unique_key="k")
    with a_transaction(lambda: ledger.create_here(first)) as over:
        crowd = [new_execution(unique_key=key) for key in ("a", "k", "b", "a")]
        starts = [asyncio.ensure_future(kit.create(new)) for new in crowd]
        a, b, second_a = await asyncio.wait_for(asyncio.gather(*starts[::2], starts[3]), TIMEOUT)
        assert (a.existing, b.existing) == (None, None)
        assert second_a.existing.id == crowd[0].id
        assert not starts[1].done()
        over.set()
        assert (await asyncio.wait_for(starts[1], TIMEOUT)).existing.id == first.id


async def test_a_key_that_becomes_free_while_it_is_asked_for(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task ends between the refusal and the look for it: the start is tried again, apart."""
    assert isinstance(kit.ledger, OrmLedger)
    first = await kit.waiting(unique_key="k")
    find, found = batch.find_unfinished, []

    def find_unfinished(alias: str, keys: Any) -> Any:
        if not found:
            found.append(kit.ledger.cancel(first, None))
        return find(alias, keys)

    monkeypatch.setattr(batch, "find_unfinished", find_unfinished)
    created = await kit.create(new_execution(unique_key="k"))
    assert (created.existing, len(found)) == (None, 1)
    assert kit.ledger.intake.failing_since is None


async def test_a_creation_inline_waits_in_its_own_thread(kit: Kit) -> None:
    """It is the caller's transaction, and the caller's wait; the ledger goes on.

    On MariaDB such a wait locks the gap before the key, so that starts without one may have to wait
    too; then they do so apart, and claims and reads are answered.
    """
    assert isinstance(kit.ledger, OrmLedger)
    ledger, first = kit.ledger, new_execution(unique_key="k")
    with a_transaction(lambda: ledger.create_here(first)) as over:
        waits = asyncio.ensure_future(
            in_a_thread(ledger.create_here, new_execution(unique_key="k"))
        )
        plain = asyncio.ensure_future(kit.waiting())
        await asyncio.wait_for(kit.claim(), TIMEOUT)
        if kit.kind == "postgres":
            await asyncio.wait_for(plain, TIMEOUT)
        assert ledger.intake.failing_since is None
        over.set()
        created: Created = await asyncio.wait_for(waits, TIMEOUT)
        await plain
    assert created.existing is not None
    assert created.existing.id == first.id


# --- claims ---------------------------------------------------------------------------------------


async def test_a_claim_takes_the_others(kit: Kit) -> None:
    """A locked row is no longer passed over once it is free."""
    first, second, third = await three(kit)
    with rows_locked(first, third):
        due = await asyncio.wait_for(kit.claim(), TIMEOUT)
        assert [it.snapshot.id for it in due.claimed] == [second]
    assert [it.snapshot.id for it in (await kit.claim()).claimed] == [first, third]


async def test_a_claim_in_turns_takes_the_others(kit: Kit) -> None:
    """Also where every row whose turn it is has been locked by another transaction."""
    rows = [await kit.waiting(owner_id=owner) for owner in "aaabbb"]
    lane = QueueClaim("default", (NAME,), 2, running={})
    with rows_locked(rows[0], rows[1], rows[3], rows[4]):
        claimed: list[UUID] = []
        for _ in range(2):
            due = await asyncio.wait_for(kit.ledger.claim(Lanes([lane])), TIMEOUT)
            claimed += [it.snapshot.id for it in due.claimed]
        assert set(claimed) == {rows[2], rows[5]}
    due = await kit.ledger.claim(Lanes([lane]))
    assert {it.snapshot.id for it in due.claimed} == {rows[0], rows[3]}


async def test_a_locked_row_that_comes_due_hides_no_other(kit: Kit) -> None:
    """Others come due beside it, and `next_due` is the time of the first that is not yet due."""
    held, beside, later = [await kit.waiting(delay=delay) for delay in (3600.0, 3600.0, 7200.0)]
    past = datetime.now(UTC) - timedelta(seconds=5)
    await TaskExecution.objects.filter(id__in=[held, beside]).aupdate(run_after=past)
    with rows_locked(held):
        due = await asyncio.wait_for(kit.claim(), TIMEOUT)
        assert [it.snapshot.id for it in due.claimed] == [beside]
        assert due.next_due is not None
        assert 3600 < due.next_due < 7201
    assert [it.snapshot.id for it in (await kit.claim()).claimed] == [held]
    assert (await stored(later)).run_after is not None


async def test_a_delivery_of_a_locked_row_is_not_refused(kit: Kit) -> None:
    """A claim distinguishes locked rows from claimed, final, delayed and unknown ones."""
    held, free, later, other = [
        await kit.waiting(**fields) for fields in ({}, {}, {"delay": 3600.0}, {"name": "other"})
    ]
    ended = (await kit.in_state(Status.COMPLETED)).snapshot.id
    wanted = DeliveryClaim(
        ids=[held, free, later, other, ended, new_id()], names=[NAME], runtime_id=new_id(),
        crashes=2, suspects=True,
    )  # fmt: skip
    with rows_locked(held, later, other, ended):
        brought = await asyncio.wait_for(dispatches(kit).claim(wanted), TIMEOUT)
    assert [it.snapshot.id for it in brought.claimed] == [free]
    assert (brought.locked, brought.postponed) == ({held}, set())
    brought = await dispatches(kit).claim(wanted)
    assert [it.snapshot.id for it in brought.claimed] == [held]
    assert brought.locked == set()


async def test_a_suspect_that_is_locked_is_locked(kit: Kit) -> None:
    """One that is not is postponed, while another one runs."""
    first, second, third = await three(kit)
    await TaskExecution.objects.aupdate(crashes=2)
    wanted = DeliveryClaim(
        ids=[first, second, third], names=[NAME], runtime_id=new_id(), crashes=2, suspects=True
    )
    with rows_locked(first):
        brought = await asyncio.wait_for(dispatches(kit).claim(wanted), TIMEOUT)
    assert [it.snapshot.id for it in brought.claimed] == [second]
    assert (brought.locked, brought.postponed) == ({first}, {third})


# --- dispatches -----------------------------------------------------------------------------------


async def send(kit: Kit) -> set[UUID]:
    found = await asyncio.wait_for(dispatches(kit).send("default", "b", 100, 100), TIMEOUT)
    return {it.id for it in found}


async def test_a_locked_row_is_sent_later(kit: Kit) -> None:
    """By the next look, a second later."""
    first, second, third = await three(kit)
    with rows_locked(second):
        assert await send(kit) == {first, third}
        assert await send(kit) == set()
    assert await send(kit) == {second}


async def test_marks_of_locked_rows_are_taken_away_later(kit: Kit) -> None:
    """`unsend` returns those that are left, without marks that are gone or newer."""
    first, second, third = await three(kit)
    sent = await dispatches(kit).send("default", "b", 100, 100)
    await TaskExecution.objects.filter(id=third).aupdate(dispatches=F("dispatches") + 1)
    with rows_locked(first, third):
        left = await asyncio.wait_for(dispatches(kit).unsend(sent), TIMEOUT)
        assert [it.id for it in left] == [first]
        assert (await stored(second)).dispatched_at is None
    assert await dispatches(kit).unsend(left) == []
    assert (await stored(first)).dispatched_at is None
    assert (await stored(third)).dispatched_at is not None


async def test_what_a_drain_sends_back_and_is_locked(kit: Kit) -> None:
    """It is reported too."""
    ids = await three(kit)
    await send(kit)
    with rows_locked(ids[1]):
        assert await asyncio.wait_for(dispatches(kit).release(ids), TIMEOUT) == {ids[1]}
    assert await dispatches(kit).release(ids) == set()
    assert await TaskExecution.objects.filter(dispatched_at=None).acount() == 3


# --- what runs ------------------------------------------------------------------------------------


async def test_outcomes_of_locked_rows_wait_together(kit: Kit) -> None:
    """Outcomes of other rows are stored; each is stored once, under its attempt."""
    claims = [await kit.running() for _ in range(6)]
    with rows_locked(*(it.snapshot.id for it in claims[:3])) as over:
        waits = [asyncio.ensure_future(kit.settle(it, Status.COMPLETED)) for it in claims[:3]]
        for it in claims[3:]:
            settled = await kit.settle(it, Status.COMPLETED)
            assert settled is not None
        assert not any(it.done() for it in waits)
        over.set()
        ends = await asyncio.gather(*waits)
    assert [it.status for it in ends if it is not None] == ["completed"] * 3


async def test_the_outcome_of_an_inline_attempt_waits_for_its_row(kit: Kit) -> None:
    """It is not dropped: nothing would settle it later."""
    assert isinstance(kit.ledger, OrmLedger)
    claimed = await kit.running()
    outcome = outcome_of(claimed, Status.COMPLETED)
    with rows_locked(claimed.snapshot.id) as over:
        waits = asyncio.ensure_future(in_a_thread(kit.ledger.settle_here, outcome))
        await asyncio.wait_for(kit.waiting(), TIMEOUT)
        over.set()
        settled = await asyncio.wait_for(waits, TIMEOUT)
    assert settled is not None
    assert settled.status is Status.COMPLETED


async def test_what_a_dead_process_held_and_is_locked_is_freed_later(kit: Kit) -> None:
    """The other pages go on; the next beat of the lease comes to it."""
    holder = new_id()
    first, second, third = await three(kit)
    for execution_id in (first, second, third):
        await kit.here(kit.ledger.claim_here, execution_id, holder, new_id())
    recovery = Recovery(holder, 2, None)
    with rows_locked(second):
        freed = await asyncio.wait_for(kit.recoveries.recover(recovery, 1), TIMEOUT)
        freed += await asyncio.wait_for(kit.recoveries.recover(recovery, 10), TIMEOUT)
        assert [it.id for it in freed] == [first, third]
        assert await kit.recoveries.recover(recovery, 10) == []
        leases = OrmLeases("default")
        assert await kit.here(leases.dead_holders) == {holder}
        await kit.here(leases.reset)
    assert [it.id for it in await kit.recoveries.recover(recovery, 10)] == [second]


async def test_a_cancel_that_does_not_wait(kit: Kit) -> None:
    """It raises `RowLocked`, and changes nothing; a final row it only reads."""
    held = await kit.waiting()
    ended = (await kit.in_state(Status.COMPLETED)).snapshot.id

    def cancel(execution_id: UUID) -> Any:
        return kit.ledger.cancel(execution_id, None, wait=False)

    with rows_locked(held, ended):
        with pytest.raises(RowLocked):
            await kit.here(cancel, held)
        assert not (await kit.here(cancel, ended)).changed
        assert await kit.here(cancel, new_id()) is None
    assert (await kit.here(cancel, held)).snapshot.status == "cancelled"


# --- names, callbacks, runtimes, schedules --------------------------------------------------------


async def test_an_unknown_name_whose_first_row_is_locked(kit: Kit) -> None:
    """It does not keep the others of its name from failing, with pages of one row."""
    first, second, third = await three(kit, name="gone")
    with rows_locked(first):
        failed = await asyncio.wait_for(kit.recoveries.fail_unknown("gone", None, None, 1), TIMEOUT)
        failed += await asyncio.wait_for(
            kit.recoveries.fail_unknown("gone", None, None, 1), TIMEOUT
        )
        assert [it.id for it in failed] == [second, third]
        assert await kit.recoveries.fail_unknown("gone", None, None, 1) == []
    assert [it.id for it in await kit.recoveries.fail_unknown("gone", None, None, 1)] == [first]


async def test_callbacks_of_locked_rows(kit: Kit) -> None:
    """Their marks are taken away later, and moved on with the next time."""
    claims = [await kit.running() for _ in range(2)]
    for it in claims:
        await kit.settle(it, Status.FAILED, callback_hold=3600.0)
    held, free = (it.snapshot.id for it in claims)
    marks = {it: (await stored(it)).callback_at for it in (held, free)}
    with rows_locked(held):
        await asyncio.wait_for(kit.callbacks.keep([held, free], HOLD), TIMEOUT)
        assert (await stored(held)).callback_at == marks[held]
        assert (await stored(free)).callback_at != marks[free]
        made = await asyncio.wait_for(kit.callbacks.made([held, free]), TIMEOUT)
        assert made == {held}
        assert (await stored(free)).callback_at is None
    assert await kit.callbacks.made([held, free]) == set()
    assert (await stored(held)).callback_at is None


async def test_a_silent_runtime_whose_row_is_locked(kit: Kit) -> None:
    """The others are found dead without it; it is, and is forgotten, when it is free."""
    leases = OrmLeases("default")
    held, other = new_id(), new_id()

    def begin() -> None:
        for runtime_id in (held, other):
            leases.begin(runtime_id, [], -1.0)

    await kit.here(begin)
    rows = TaskRuntime.objects.select_for_update().filter(id=held)
    with a_transaction(lambda: list(rows)):
        assert await asyncio.wait_for(kit.here(leases.condemn), TIMEOUT) == 1
        assert (await TaskRuntime.objects.aget(id=other)).dead
        old = datetime.now(UTC) - timedelta(days=3)
        await TaskRuntime.objects.filter(id=other).aupdate(renewed_at=old)
        await asyncio.wait_for(kit.here(leases.forget), TIMEOUT)
        assert not await TaskRuntime.objects.filter(id=other).aexists()
    assert await kit.here(leases.condemn) == 1
    await TaskRuntime.objects.aupdate(renewed_at=old)
    await kit.here(leases.forget)
    await kit.here(leases.reset)
    assert await TaskRuntime.objects.acount() == 0


async def test_a_tick_that_another_process_is_taking(kit: Kit) -> None:
    """It is not had twice, nor lost if that one fails; writes go on meanwhile."""
    assert isinstance(kit.ledger, OrmLedger)
    ledger, at = kit.ledger, datetime(2026, 1, 1, tzinfo=UTC)
    await ledger.schedule("s", at - timedelta(hours=1))
    running = await kit.running()
    with a_transaction(lambda: ledger._tick("s", at, new_execution())) as over:
        waits = asyncio.ensure_future(ledger.tick("s", at, new_execution()))
        assert await kit.settle(running, Status.COMPLETED) is not None
        assert not waits.done()
        over.set()
        assert await asyncio.wait_for(waits, TIMEOUT) is None
    later = at + timedelta(hours=1)

    def fail() -> None:
        ledger._tick("s", later, new_execution())
        transaction.set_rollback(True)

    with a_transaction(fail) as over:
        waits = asyncio.ensure_future(ledger.tick("s", later, new_execution()))
        await kit.waiting()
        over.set()
        assert await asyncio.wait_for(waits, TIMEOUT) is not None


async def test_a_schedule_that_is_set_back_while_its_row_is_locked(kit: Kit) -> None:
    """It waits in its own coroutine; writes go on meanwhile."""
    assert isinstance(kit.ledger, OrmLedger)
    ledger, at = kit.ledger, datetime(2126, 1, 1, tzinfo=UTC)
    await ledger.schedule("s", at)
    running = await kit.running()
    with a_transaction(lambda: list(TaskSchedule.objects.select_for_update())) as over:
        waits = asyncio.ensure_future(ledger.set_back("s", at - timedelta(days=1), at))
        await kit.ledger.reread([])  # behind it in line: it has been tried
        settled = await asyncio.wait_for(kit.settle(running, Status.COMPLETED), TIMEOUT)
        assert settled is not None
        assert not waits.done()
        over.set()
        assert await asyncio.wait_for(waits, TIMEOUT)


async def test_a_writers_connection_waits_as_before_afterwards(kit: Kit) -> None:
    """The timeout of one transaction's waits for locks is not left on the connection."""
    assert isinstance(kit.ledger, OrmLedger)
    ledger, first = kit.ledger, new_execution(unique_key="k")
    name = "lock_timeout" if kit.kind == "postgres" else "innodb_lock_wait_timeout"

    def setting() -> Any:
        with connection.cursor() as cursor:
            show = "SHOW " if kit.kind == "postgres" else "SELECT @@SESSION."
            cursor.execute(f"{show}{name}")
            return cursor.fetchone()[0]

    threads = ledger.writers()
    before = await threads.run_aside(setting)
    with a_transaction(lambda: ledger.create_here(first)) as over:
        waits = asyncio.ensure_future(kit.create(new_execution(unique_key="k")))
        await kit.waiting()
        assert [await threads.run(setting), await threads.run_aside(setting)] == [before] * 2
        over.set()
        await waits
    assert [await threads.run(setting), await threads.run_aside(setting)] == [before] * 2
