"""Every ledger: what was stored while its clock was ahead is mended once the clock is right again.

A row is written by the ledger, then all of its times are shifted, as if the clock had been ahead.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.db.models import F

from rail_async_tasks.ids import first_id_at, new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.records import INLINE_HOLDER, NOTHING_KNOWN, Page
from rail_async_tasks.models import TaskExecution, TaskRuntime, TaskSchedule
from rail_async_tasks.runtime.upkeep.lease import Lease
from rail_async_tasks.states import Status
from tests.contract.conftest import ON_SQL
from tests.support.ledgers import Kit, new_execution

YEARS, HOUR = timedelta(days=3650), timedelta(hours=1)
TTL, HOLD = 6000.0, 1200.0
TIMES = ("created_at", "updated_at", "run_after", "started_at", "completed_at", "expires_at")
# Those that no snapshot has.
INNER_TIMES = ("dispatched_at", "callback_at")

on_sql = pytest.mark.parametrize("ledger_kind", ON_SQL, indirect=True)


async def written_ahead(kit: Kit, execution_id: UUID, by: timedelta) -> None:
    """The row as it would be if the clock had been ahead when it was written."""
    if isinstance(kit.ledger, MemoryLedger):
        row = kit.ledger.store.rows[execution_id]
        shifted = {it: at + by for it in TIMES if (at := getattr(row.snapshot, it)) is not None}
        row.snapshot = msgspec.structs.replace(row.snapshot, **shifted)
        return

    def shift() -> None:
        rows = TaskExecution.objects.filter(id=execution_id)
        row = rows.get()
        rows.update(
            **{it: at + by for it in TIMES + INNER_TIMES if (at := getattr(row, it)) is not None}
        )

    await kit.here(shift)


async def corrected(kit: Kit) -> int:
    return await kit.ledger.correct_times(TTL, HOLD)


def left(at: datetime | None) -> float:
    """Seconds until then."""
    assert at is not None
    return (at - datetime.now(UTC)).total_seconds()


@pytest.mark.parametrize("by", [HOUR, YEARS])
async def test_a_retry(kit: Kit, by: timedelta) -> None:
    """Comes after its delay, and not before."""
    claimed = await kit.running()
    await kit.settle(claimed, Status.RETRYING, delay=3000.0, retried=1)
    await written_ahead(kit, claimed.snapshot.id, by)
    assert await corrected(kit) == 1
    after = await kit.get(claimed.snapshot.id)
    assert 2000 < left(after.run_after) <= 3000
    assert await corrected(kit) == 0
    assert await kit.get(after.id) == after


async def test_a_delay(kit: Kit) -> None:
    """Comes after its delay where the clock was ahead by years; an hour is waited for."""
    far, near = await kit.waiting(delay=3000.0), await kit.waiting(delay=3000.0)
    await written_ahead(kit, far, YEARS)
    await written_ahead(kit, near, HOUR)
    assert await corrected(kit) == 1
    assert 2000 < left((await kit.get(far)).run_after) <= 3000
    assert 3600 + 2000 < left((await kit.get(near)).run_after) <= 3600 + 3000


@pytest.mark.parametrize("by", [HOUR, YEARS])
async def test_a_time_of_day(kit: Kit, by: timedelta) -> None:
    """Is kept to: what was put off to a time never begins before it."""
    at = datetime.now(UTC) + timedelta(hours=8)
    row = await kit.waiting(run_after=at)
    await written_ahead(kit, row, by)
    if isinstance(kit.ledger, MemoryLedger):
        rows = kit.ledger.store.rows
        rows[row].snapshot = msgspec.structs.replace(rows[row].snapshot, run_after=at)
    else:
        await kit.here(lambda: TaskExecution.objects.filter(id=row).update(run_after=at))
    assert await corrected(kit) == 0
    assert (await kit.get(row)).run_after == at


async def test_a_finished_row(kit: Kit) -> None:
    """Expires as long from now as it was to live."""
    claimed = await kit.running()
    await kit.settle(claimed, Status.COMPLETED, ttl=TTL)
    await written_ahead(kit, claimed.snapshot.id, YEARS)
    assert await corrected(kit) == 1
    assert TTL - 600 < left((await kit.get(claimed.snapshot.id)).expires_at) <= TTL
    assert await corrected(kit) == 0


async def test_times_that_are_right_stay(kit: Kit) -> None:
    """Of rows in every state, and of those that were put off for long."""
    rows = [(await kit.in_state(it)).snapshot.id for it in Status]
    rows += [await kit.waiting(delay=delay) for delay in (1.0, 3600.0, YEARS.total_seconds())]
    claimed = await kit.running()
    await kit.settle(claimed, Status.COMPLETED, ttl=10 * TTL)
    rows.append(claimed.snapshot.id)
    before = [await kit.get(it) for it in rows]
    assert await corrected(kit) == 0
    assert [await kit.get(it) for it in rows] == before


@pytest.mark.parametrize("ledger_options", [LedgerOptions(max_changed=2)])
async def test_what_an_owner_has_changed_is_found_among_it(kit: Kit) -> None:
    """Rows from the future are not for ever those that were changed last."""
    for _ in range(3):
        await written_ahead(kit, await kit.waiting(owner_id="1"), YEARS)
    row = await kit.waiting(owner_id="1")
    assert [it.id for it in await kit.ledger.changed_lately(["1"], 600)] == [row]


async def test_starts_from_the_future_do_not_count(kit: Kit) -> None:
    """For a rate: they would for ever."""
    at = datetime.now(UTC).timestamp()
    future = first_id_at(at + YEARS.total_seconds())
    for number in range(3):
        await kit.create(new_execution(id=UUID(int=future.int + number), owner_id="1"))
    row = await kit.waiting(owner_id="1")
    since, until = first_id_at(at - 600), first_id_at(at + 600)
    newest = kit.ledger.nth_newest
    assert await kit.here(lambda: newest("1", since, until, 1, besides=())) == row
    assert await kit.here(lambda: newest("1", since, until, 2, besides=())) is None
    assert len(await kit.here(kit.ledger.page, Page(limit=10, everyone=True))) == 4


@on_sql
async def test_a_failure_callback(kit: Kit) -> None:
    """Is reserved for the process that failed the task no longer than it may be."""
    claimed = await kit.running()
    await kit.settle(claimed, Status.FAILED, callback_hold=600.0)
    await written_ahead(kit, claimed.snapshot.id, YEARS)
    assert await corrected(kit) == 1
    row = await TaskExecution.objects.aget(id=claimed.snapshot.id)
    assert HOLD - 600 < left(row.callback_at) <= HOLD
    assert await corrected(kit) == 0


@on_sql
async def test_a_dispatch(kit: Kit) -> None:
    """Counts as sent just now: it is sent again when it has been under way for too long."""
    row = await kit.waiting()
    dispatches = kit.ledger.dispatches()
    assert dispatches is not None
    assert len(await dispatches.send("default", "b", 10, 10)) == 1
    await written_ahead(kit, row, YEARS)
    assert await corrected(kit) == 1
    assert len(await dispatches.under_way("b", -1.0, None, 10)) == 1
    sent = await TaskExecution.objects.aget(id=row)
    assert -600 < left(sent.dispatched_at) <= 0


@on_sql
async def test_a_lease(kit: Kit) -> None:
    """Of a process that died while the clock was ahead lapses; one that lives renews it."""
    leases = kit.ledger.leases()
    assert leases is not None
    dead, alive = new_id(), new_id()

    def renew() -> int:
        for it in (dead, alive):
            leases.begin(it, ["echo"], 900.0)
        times = {it: F(it) + YEARS for it in ("renewed_at", "lapses_at")}
        TaskRuntime.objects.filter(id=dead).update(**times)
        return leases.condemn()

    assert await kit.here(renew) == 0
    assert await corrected(kit) == 1
    rows = {it.id: it async for it in TaskRuntime.objects.all()}
    assert 0 < left(rows[dead].lapses_at) <= 900
    assert -600 < left(rows[dead].renewed_at) <= 0
    assert await corrected(kit) == 0
    await kit.here(leases.reset)


@on_sql
async def test_how_much_of_a_lease_is_left(kit: Kit) -> None:
    """By the ledger's clock, which may have been set."""
    leases = kit.ledger.leases()
    assert leases is not None
    mine = new_id()

    def look() -> None:
        assert leases.renew(mine, 900.0, NOTHING_KNOWN).left is None
        leases.begin(mine, ["echo"], 900.0)
        assert 300 < (leases.renew(mine, 900.0, NOTHING_KNOWN).left or 0) <= 900
        TaskRuntime.objects.filter(id=mine).update(lapses_at=F("lapses_at") - HOUR)
        assert -3600 < (leases.renew(mine, 900.0, NOTHING_KNOWN).left or 0) <= 900 - 3600
        leases.reset()

    await kit.here(look)


class Holder:
    """The runtime that a lease calls."""

    def __init__(self) -> None:
        self.fenced_count = 0

    def is_writing(self, seconds: float) -> bool:
        return True

    def leased(self, runtime_id: UUID) -> None:
        self.id = runtime_id

    def fenced(self, runtime_id: UUID) -> None:
        self.fenced_count += 1

    def lease_ended(self) -> None: ...

    def dead_holders(self, holders: frozenset[UUID]) -> None: ...

    def broke(self, part: str, error: BaseException) -> None: ...


@on_sql
async def test_a_clock_that_is_set_ahead_marks_no_runtime_dead(
    kit: Kit,
) -> None:
    """By it every lease has lapsed at once. Who is silent after that is found out as ever."""
    seconds, ours = 900.0, 1000.0
    holders = Holder(), Holder()

    def made(holder: Holder) -> Lease:
        ledgers = kit.ledger.leases()
        assert ledgers is not None
        return Lease(
            leases=ledgers, holder=holder, call_loop=lambda call, *args: call(*args),
            lag=lambda: 0.0, names=frozenset, seconds=seconds, clock=lambda: ours,
        )  # fmt: skip

    leases = [made(holder) for holder in holders]

    def beat(*which: Lease) -> None:
        nonlocal ours
        for _ in range(7):  # once around: after that each may judge
            ours += seconds / 5
            for it in which:
                it.beat()

    def set_ahead(*ids: UUID) -> None:
        rows = TaskRuntime.objects.filter(id__in=ids)
        rows.update(**{it: F(it) - HOUR for it in ("renewed_at", "lapses_at")})

    def life() -> None:
        beat(*leases)
        set_ahead(*(it.id for it in holders))
        beat(*leases)
        assert TaskRuntime.objects.filter(dead=True).count() == 0
        assert [it.fenced_count for it in holders] == [0, 0]
        set_ahead(holders[1].id)
        beat(leases[0])
        dead = TaskRuntime.objects.filter(dead=True).values_list("id", flat=True)
        assert list(dead) == [holders[1].id]
        for it in leases:
            it._leases.reset()

    await kit.here(life)


@on_sql
async def test_what_runs_inline(kit: Kit) -> None:
    """Is taken for lost a day from now, as if it had begun now."""
    row = await kit.waiting()
    claimed = await kit.here(kit.ledger.claim_here, row, INLINE_HOLDER, new_id())
    assert claimed is not None
    await written_ahead(kit, row, YEARS)
    assert await corrected(kit) == 1
    after = await kit.get(row)
    assert -600 < left(after.started_at) <= 0


# --- ticks ----------------------------------------------------------------------------------------


async def test_a_tick_beyond_the_latest_is_set_back(kit: Kit) -> None:
    """Once; a tick that is not beyond it stays."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    latest = now + timedelta(minutes=5)
    await kit.ledger.schedule("s", now)
    assert not await kit.ledger.set_back("s", latest, now)
    assert await kit.ledger.tick("s", now + YEARS, new_execution()) is not None
    assert await kit.ledger.tick("s", latest, new_execution()) is None
    assert await kit.ledger.set_back("s", latest, now)
    assert not await kit.ledger.set_back("s", latest, now)
    assert await kit.ledger.tick("s", latest, new_execution()) is not None
    assert await kit.ledger.tick("s", latest, new_execution()) is None


async def test_a_tick_whose_time_has_come_is_not_set_back(kit: Kit) -> None:
    """However long ago the latest was read: another process has had it since."""
    taken = datetime(2026, 1, 1, tzinfo=UTC)
    await kit.ledger.schedule("s", taken - timedelta(days=1))
    assert await kit.ledger.tick("s", taken, new_execution()) is not None
    assert not await kit.ledger.set_back("s", taken - timedelta(minutes=5), taken)
    assert await kit.ledger.tick("s", taken, new_execution()) is None


@pytest.fixture(params=[True, False])
def summer_time(request: pytest.FixtureRequest, settings: Any) -> bool:
    settings.TIME_ZONE, settings.USE_TZ = "Europe/Berlin", request.param
    return bool(request.param)


async def test_ticks_of_two_hours_that_look_the_same(
    summer_time: bool, ledger_kind: str, kit: Kit
) -> None:
    """Each is taken once, also where local times are kept, and where an hour is left out."""
    for year, month, day in ((2026, 10, 25), (2026, 3, 29)):
        began = datetime(year, month, day, tzinfo=UTC)
        name = f"s{month}"
        await kit.ledger.schedule(name, began)
        for minutes in range(15, 240, 15):
            at = began + timedelta(minutes=minutes)
            assert await kit.ledger.tick(name, at, new_execution()) is not None, at
            assert await kit.ledger.tick(name, at, new_execution()) is None, at
    if not isinstance(kit.ledger, MemoryLedger):
        assert await TaskSchedule.objects.acount() == 2
