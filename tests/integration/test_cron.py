"""Tasks that run by themselves."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from rail_async_tasks import errors, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.orm.schedules import OrmSchedules
from rail_async_tasks.models import TaskExecution, TaskSchedule
from rail_async_tasks.runtime.timings import RuntimeTimings
from rail_async_tasks.runtime.upkeep.cron import Schedule
from rail_async_tasks.runtime.upkeep.scheduler import SchedulerTimings
from tests.support.runtimes import on_databases, other_process
from tests.support.waiting import eventually

pytestmark = pytest.mark.turns("store")
STEP = 0.5


class EveryHalfSecond:
    """A schedule that a test need not wait a minute for."""

    def __init__(self, expression: str) -> None: ...

    def after(self, moment: datetime) -> datetime:
        return datetime.fromtimestamp((moment.timestamp() // STEP + 1) * STEP, UTC)

    def latest(self, moment: datetime) -> datetime:
        return self.after(moment) - timedelta(seconds=STEP)


OFTEN = RuntimeTimings(scheduler=SchedulerTimings(ticks_of=EveryHalfSecond))


@dataclass
class Ticks:
    """What the ledgers of this process were asked about schedules."""

    taken: list[datetime] = field(default_factory=list)
    under_way: int = 0
    open: bool = True  # else no more ticks are asked for
    refused: int = 0
    followed: int = 0  # looks for a tick to set back: one at first, one after each refusal


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    """Notes the calls, which go on as ever."""
    seen, tick, set_back = Ticks(), OrmSchedules.tick, OrmSchedules.set_back

    async def noted_tick(self: OrmSchedules, name: str, at: datetime, new: Any) -> Any:
        if not seen.open:
            await asyncio.Event().wait()  # until the runtime ends
        seen.under_way += 1
        created = await tick(self, name, at, new)
        seen.under_way -= 1
        if created is None:
            seen.refused += 1
        else:
            seen.taken.append(at)
        return created

    async def noted_set_back(self: OrmSchedules, name: str, latest: datetime, to: datetime) -> bool:
        done = await set_back(self, name, latest, to)
        seen.followed += 1
        return done

    monkeypatch.setattr(OrmSchedules, "tick", noted_tick)
    monkeypatch.setattr(OrmSchedules, "set_back", noted_set_back)
    return seen


@pytest.fixture
def all_runtimes(runtimes: AsyncExitStack) -> AsyncExitStack:
    """With the one that a test itself starts."""
    runtimes.push_async_callback(host.astop)
    return runtimes


@on_databases
async def test_each_tick_is_had_once_by_three_runtimes(
    store: str, all_runtimes: AsyncExitStack, ticks: Ticks
) -> None:
    """Whichever comes first."""

    @task(name="cron.tick", cron="* * * * *")
    async def tick() -> None: ...

    for _ in range(3):
        await other_process(all_runtimes, OFTEN)
    await eventually(lambda: len(ticks.taken) >= 5)
    # An end in the middle of one would leave its row and not wait for its answer.
    ticks.open = False
    await eventually(lambda: ticks.under_way == 0)
    await all_runtimes.aclose()
    listed = await service.alist(SYSTEM, name="cron.tick", limit=100)
    # On a busy machine a tick may pass unseen; tests/runtime/test_scheduler.py turns a clock.
    assert len(set(ticks.taken)) == len(ticks.taken)
    assert len(listed) == len(ticks.taken)
    assert {snapshot.owner_id for snapshot in listed} == {None}


@on_databases
@pytest.mark.parametrize("catch_up", [True, False])
async def test_what_was_missed_while_all_were_down(
    store: str, all_runtimes: AsyncExitStack, ticks: Ticks, catch_up: bool
) -> None:
    """One run makes up for all missed ticks, where the task says so; the first start has none."""

    @task(name="cron.yearly", cron="0 0 1 1 *", catch_up=catch_up)
    async def yearly() -> None: ...

    await other_process(all_runtimes)
    await eventually(lambda: ticks.followed and (ticks.refused or not catch_up))
    await all_runtimes.aclose()
    assert await service.alist(SYSTEM) == []
    past = datetime(2020, 6, 1, tzinfo=UTC)
    await TaskSchedule.objects.filter(name="cron.yearly").aupdate(last_tick=past)
    ticks.followed = ticks.refused = 0
    for _ in range(2):
        await other_process(all_runtimes)
    # Each process asks for the missed tick right after it has begun to follow the schedule.
    await eventually(lambda: ticks.followed >= 2)
    if catch_up:
        await eventually(lambda: ticks.taken and ticks.refused)
        done = TaskExecution.objects.filter(status="completed")
        await eventually(done.aexists)
    await all_runtimes.aclose()
    assert len(await service.alist(SYSTEM)) == len(ticks.taken) == (1 if catch_up else 0)


def test_ticks_are_in_the_projects_time_zone(settings: Any) -> None:
    """Also over a change of summer time."""
    settings.TIME_ZONE = "Europe/Berlin"
    daily = Schedule("30 9 * * *")
    assert daily.after(datetime(2026, 10, 24, 12, tzinfo=UTC)) == datetime(
        2026, 10, 25, 8, 30, tzinfo=UTC
    )
    assert daily.after(datetime(2026, 10, 24, 7, tzinfo=UTC)) == datetime(
        2026, 10, 24, 7, 30, tzinfo=UTC
    )
    assert daily.latest(datetime(2026, 10, 24, 7, tzinfo=UTC)) == datetime(
        2026, 10, 23, 7, 30, tzinfo=UTC
    )


def test_a_wrong_expression_is_an_error_of_the_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They say what a good one looks like; nothing else is held up by it."""
    with pytest.raises(errors.ConfigurationError, match="five fields"):
        Schedule("every monday")

    @task(name="cron.wrong", cron="61 * * * *")
    async def wrong() -> None: ...

    with pytest.raises(SystemCheckError, match=r"cron\.wrong"):
        call_command("check", "--tag", "rail_async_tasks")


@on_databases
async def test_a_unique_task_has_one_tick_unfinished(
    store: str, all_runtimes: AsyncExitStack, ticks: Ticks
) -> None:
    """Later ticks find it, like any other start of it."""
    go = asyncio.Event()

    @task(name="cron.unique", cron="* * * * *", unique=True)
    async def unique() -> None:
        await go.wait()

    runtime = await other_process(all_runtimes, OFTEN)
    await eventually(lambda: runtime.attempts)
    first = next(iter(runtime.attempts))
    later = ticks.refused + 3
    await eventually(lambda: ticks.refused >= later)
    assert list(runtime.attempts) == [first]
    assert (await unique.aenqueue()).id == first
    assert len(await service.alist(SYSTEM, name="cron.unique", limit=10)) == 1
    go.set()


@on_databases
async def test_ticks_are_the_ledgers(
    store: str, monkeypatch: pytest.MonkeyPatch, all_runtimes: AsyncExitStack
) -> None:
    """A process whose own clock is wrong takes no tick before its time, nor misses one."""
    runtime = await other_process(all_runtimes)
    by_ledger = await runtime.ledger.now()
    monkeypatch.setattr(type(runtime.ledger), "now", lambda ledger: ahead())

    async def ahead() -> datetime:
        return by_ledger + timedelta(hours=1)

    found = await runtime.services.upkeep.scheduler.clock.now()
    assert abs(found - await ahead()) < timedelta(minutes=10)
