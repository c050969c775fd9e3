"""Locks that a caller's transaction holds: they hold up what needs them, and nothing else.

Each test holds a lock on a second connection until unrelated tasks have been started, run and
answered; only then does it let go, and what waited goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.utils import timezone

from rail_async_tasks import Task, TaskHandle, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.ledger.records import Disposal, NewExecution
from rail_async_tasks.models import TaskExecution, TaskSchedule
from rail_async_tasks.service import change
from tests.services.locking import a_transaction, locked
from tests.support.databases import database_url
from tests.support.runtimes import Configure
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually, final, until_status

pytestmark = [
    pytest.mark.parametrize(
        "store", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
    ),
    pytest.mark.usefixtures("ends_cleanly"),
]


def adds() -> Task:
    @task(name="locks.add")
    async def add(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    return add


def rebuilds(go: asyncio.Event | None = None) -> Task:
    @task(name="locks.rebuild", unique=True)
    async def rebuild(key: int) -> int:
        if go is not None:
            await go.wait()
        return key

    return rebuild


def ledger() -> OrmLedger:
    runtime = host.current()
    assert runtime is not None
    assert isinstance(runtime.ledger, OrmLedger)
    return runtime.ledger


async def five_others_run(add: Task) -> None:
    """Five starts are answered, claimed and run: three at once, two by a claim from the table."""
    async with asyncio.timeout(TIMEOUT):
        handles = [await add.aenqueue(a=number) for number in range(3)]
        handles += [await add.using(delay=0.02).aenqueue(a=number) for number in (3, 4)]
        assert [(await final(it)).result for it in handles] == [1, 2, 3, 4, 5]


@asynccontextmanager
async def waiting(what: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """It is under way, and no more than that; it is done after the block."""
    under_way = asyncio.ensure_future(what)
    await asyncio.sleep(0)
    yield under_way
    async with asyncio.timeout(TIMEOUT):
        await under_way


# --- unique keys ----------------------------------------------------------------------------------


async def in_the_loop(rebuild: Task) -> TaskHandle:
    return await rebuild.aenqueue(key=1)


async def in_a_thread(rebuild: Task) -> TaskHandle:
    return await asyncio.to_thread(rebuild.enqueue, key=1)


@pytest.mark.parametrize("start", [in_the_loop, in_a_thread])
async def test_a_unique_key_in_an_open_transaction_holds_up_its_own_starts_alone(
    store: str, start: Callable[[Task], Any]
) -> None:
    """They are answered with the task that commits. Others are stored, claimed and run before."""
    go = asyncio.Event()
    add, rebuild = adds(), rebuilds(go)
    await final(await add.aenqueue(a=0))  # the runtime lives on this loop
    holders: list[TaskHandle] = []
    with a_transaction(lambda: holders.append(rebuild.enqueue(key=1))) as over:
        async with waiting(start(rebuild)) as second, waiting(start(rebuild)) as third:
            await eventually(lambda: ledger().intake.pending == 2)
            await five_others_run(add)
            await rebuild.aenqueue(key=2)
            assert not second.done()
            assert not third.done()
            over.set()
    assert {second.result().id, third.result().id} == {holders[0].id}
    go.set()
    assert (await final(holders[0])).result == 1


async def test_a_unique_key_that_is_rolled_back_is_free(store: str) -> None:
    """The start that waited for it creates a task of its own, which runs."""
    rebuild = rebuilds()
    await final(await rebuild.aenqueue(key=0))

    def enqueue_and_fail() -> None:
        rebuild.enqueue(key=1)
        transaction.set_rollback(True)

    with a_transaction(enqueue_and_fail) as over:
        async with waiting(rebuild.aenqueue(key=1)) as second:
            await eventually(lambda: ledger().intake.pending == 1)
            await five_others_run(adds())
            assert not second.done()
            over.set()
    assert (await final(second.result())).result == 1
    assert await TaskExecution.objects.filter(name="locks.rebuild").acount() == 2


async def test_a_key_that_an_open_transaction_sets_free(store: str) -> None:
    """A cancel in it clears the key: until it commits the key may be taken or free."""
    rebuild = rebuilds()
    first = await rebuild.using(delay=3600).aenqueue(key=1)
    with a_transaction(lambda: service.cancel(SYSTEM, first.id)) as over:
        async with waiting(rebuild.aenqueue(key=1)) as second:
            await eventually(lambda: ledger().intake.pending == 1)
            await five_others_run(adds())
            assert not second.done()
            over.set()
    assert second.result().id != first.id
    assert (await final(second.result())).result == 1


async def test_starts_that_wait_for_a_key_hold_no_slots(store: str, configure: Configure) -> None:
    """Nor do they count as a backlog of the writer."""
    configure(max_concurrency=2)
    rebuild = rebuilds()
    await final(await rebuild.aenqueue(key=0))

    def enqueue() -> None:
        for key in range(1, 6):
            rebuild.enqueue(key=key)

    with a_transaction(enqueue) as over:
        others = [asyncio.ensure_future(rebuild.aenqueue(key=key)) for key in range(1, 6)]
        await eventually(lambda: ledger().intake.pending == 5)
        await five_others_run(adds())
        assert not any(it.done() for it in others)
        over.set()
        handles = await asyncio.gather(*others)
    assert [(await final(it)).result for it in handles] == [1, 2, 3, 4, 5]


async def test_a_key_that_is_held_for_too_long(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the cause; nothing is stored of the start, then or later."""
    options = staticmethod(lambda settings: LedgerOptions(create_timeout=0.2))
    monkeypatch.setattr(LedgerOptions, "of", options)
    rebuild = rebuilds()
    await final(await rebuild.aenqueue(key=0))
    with a_transaction(lambda: rebuild.enqueue(key=1)):
        with pytest.raises(BackendUnavailable, match="another transaction has held its unique key"):
            await rebuild.aenqueue(key=1)
        await five_others_run(adds())
    assert await TaskExecution.objects.filter(name="locks.rebuild").acount() == 2


async def test_a_process_ends_without_waiting_for_a_key(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The start is refused; nothing is stored of it, then or later."""
    rebuild = rebuilds()
    await final(await rebuild.aenqueue(key=0))
    with a_transaction(lambda: rebuild.enqueue(key=1)):
        starts = [asyncio.ensure_future(rebuild.aenqueue(key=1)) for _ in range(3)]
        await eventually(lambda: ledger().intake.pending == 3)
        await asyncio.wait_for(host.astop(), TIMEOUT)
        for start in starts:
            with pytest.raises(BackendUnavailable):
                await start
    assert "could not be written" not in caplog.text  # it has not waited in vain
    assert await TaskExecution.objects.filter(name="locks.rebuild").acount() == 2


async def test_a_long_wait_for_a_key_costs_no_lease(store: str, configure: Configure) -> None:
    """The writer waits for nothing, so that it counts as writing."""
    configure(lease_seconds=4)  # long enough not to be lost by a busy machine
    rebuild = rebuilds()
    await final(await rebuild.aenqueue(key=0))
    runtime = host.current()
    assert runtime is not None
    with a_transaction(lambda: rebuild.enqueue(key=1)) as over:
        async with waiting(rebuild.aenqueue(key=1)):
            await eventually(lambda: ledger().intake.pending == 1)
            offered = ledger().intake.batches
            await eventually(lambda: ledger().intake.batches > offered + 8)
            assert ledger().intake.failing_since is None
            assert (runtime.fences, runtime.holding) == (0, True)
            over.set()


# --- rows -----------------------------------------------------------------------------------------


async def test_a_cancel_of_a_locked_row_waits_alone(store: str) -> None:
    """Starts count what waits in the thread in which it was asked for: that one is free."""
    add = adds()
    held = await add.using(delay=3600).aenqueue(a=0)
    with locked(held.id) as other:
        async with waiting(service.acancel(SYSTEM, held.id)) as cancel:
            await asyncio.to_thread(lambda: None)
            await five_others_run(add)
            assert not cancel.done()
            other.rollback()
    assert cancel.result().status == "cancelled"


async def test_a_cancel_of_a_row_that_is_locked_for_too_long(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, and changes nothing."""
    monkeypatch.setattr(change, "LOCK_TIMEOUT", 0.1)
    held = await adds().using(delay=3600).aenqueue(a=0)
    with locked(held.id), pytest.raises(BackendUnavailable, match="another transaction has held"):
        await service.acancel(SYSTEM, held.id)
    assert (await held.arefresh()).status == "pending"


SOON = " SET run_after = now() + interval '2 s' WHERE"


async def test_a_delayed_row_that_is_locked_when_it_comes_due(store: str) -> None:
    """Others that come due are staged and run; it is, once it is free."""
    add = adds()
    held = await add.using(delay=3600).aenqueue(a=6)
    with psycopg.connect(database_url(), autocommit=True) as other:
        # In one message, so that the row is locked long before it is due.
        row = f"rail_async_tasks_execution WHERE id = '{held.id}'"
        other.execute(
            f"BEGIN; UPDATE {row.replace(' WHERE', SOON)}; COMMIT;"
            f" BEGIN; SELECT 1 FROM {row} FOR UPDATE".encode()
        )
        due = timezone.now() + timedelta(seconds=2)
        await eventually(lambda: timezone.now() > due)
        await five_others_run(add)
        assert (await held.arefresh()).status == "pending"
        other.execute("ROLLBACK")
    assert (await final(held)).result == 7


@pytest.mark.parametrize("mode", ["KEY SHARE", "UPDATE"])
async def test_the_outcome_of_a_locked_row_waits_alone(store: str, mode: str) -> None:
    """FOR KEY SHARE is what a new row takes that refers to the task: it holds nothing up."""
    go = asyncio.Event()

    @task(name="locks.gated")
    async def gated() -> int:
        await go.wait()
        return 1

    held = await gated.aenqueue()
    await until_status(held, "running")
    with locked(held.id, mode=mode) as other:
        go.set()
        await five_others_run(adds())
        if mode == "UPDATE":
            assert (await held.arefresh()).status == "running"
        else:
            assert (await final(held)).result == 1
        other.rollback()
    assert (await final(held)).result == 1


async def test_a_process_ends_without_waiting_for_a_locked_row(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """After the drain the log names the task and the lock; the row is left to recovery."""
    configure(drain_seconds=0)
    go = asyncio.Event()

    @task(name="locks.gated")
    async def gated() -> int:
        await go.wait()
        return 1

    held = await gated.aenqueue()
    await until_status(held, "running")
    with locked(held.id):
        go.set()
        await asyncio.wait_for(host.astop(), TIMEOUT)
        assert str(held.id) in caplog.text
        assert "another transaction has locked its row" in caplog.text
        assert "does not answer" not in caplog.text
    assert (await TaskExecution.objects.aget(id=held.id)).status == "running"


async def test_a_waiting_row_that_a_new_row_refers_to_is_claimed(store: str) -> None:
    """An open transaction that inserts a row with a foreign key to the task does not hold it up."""
    add = adds()
    held = await add.using(delay=3600).aenqueue(a=0)
    with locked(held.id, mode="KEY SHARE"):
        past = timezone.now() - timedelta(seconds=1)
        await TaskExecution.objects.filter(id=held.id).aupdate(run_after=past)
        assert (await final(held)).result == 1


async def test_the_clean_up_leaves_a_locked_row_to_its_next_round(
    store: str, timings: Timings
) -> None:
    """Other expired rows are deleted; tasks start and end meanwhile."""
    timings.set("cleanup", interval=1e6)  # no round of the runtime's own comes in between
    add = adds()
    handles = [await add.aenqueue(a=number) for number in range(3)]
    for handle in handles:
        await final(handle)
    past = timezone.now() - timedelta(seconds=1)
    await TaskExecution.objects.aupdate(expires_at=past)
    with locked(handles[0].id) as other:
        assert await ledger().delete_expired(100) == 2
        assert await sync_to_async(ledger().dispose)(Disposal(), 100) == 0
        await five_others_run(add)
        other.rollback()
    assert await ledger().delete_expired(100) == 1


# --- schedules ------------------------------------------------------------------------------------

TICK = datetime(2026, 1, 1, tzinfo=UTC)


def ticked(name: str, unique_key: str | None = None) -> NewExecution:
    return NewExecution(
        id=new_id(), name=name, queue="default", priority=0, arguments='{"a": 1}', max_retries=0,
        unique_key=unique_key,
    )  # fmt: skip


async def test_a_tick_waits_for_a_locked_schedule_alone(store: str) -> None:
    """It is had once the row is free."""
    add = adds()
    await final(await add.aenqueue(a=0))
    await ledger().schedule("locks.add", TICK - timedelta(hours=1))

    def lock() -> None:
        list(TaskSchedule.objects.select_for_update())

    with a_transaction(lock) as over:
        async with waiting(ledger().tick("locks.add", TICK, ticked("locks.add"))) as tick:
            await five_others_run(add)
            assert not tick.done()
            over.set()
    assert tick.result() is not None
    assert await ledger().tick("locks.add", TICK, ticked("locks.add")) is None


async def test_a_tick_waits_for_its_unique_key_alone(store: str) -> None:
    """The schedule is not locked meanwhile, so that other processes come to it too."""
    add = adds()
    await final(await add.aenqueue(a=0))
    await ledger().schedule("locks.add", TICK - timedelta(hours=1))
    first = ticked("locks.add", "k")
    with a_transaction(lambda: ledger().create_here(first)) as over:
        tick = ledger().tick("locks.add", TICK, ticked("locks.add", "k"))
        async with waiting(tick) as waits:
            await five_others_run(add)
            assert not waits.done()
            over.set()
    assert waits.result() is None  # the unfinished one is the tick's
