"""Tasks that run by themselves."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from rail_async_tasks import errors, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.runtime.timings import RuntimeTimings
from rail_async_tasks.runtime.upkeep.cron import Schedule
from rail_async_tasks.runtime.upkeep.scheduler import SchedulerTimings
from tests.support.runtimes import on_databases, other_process
from tests.support.waiting import eventually

STEP = 0.5


class EveryHalfSecond:
    """A schedule that a test need not wait a minute for."""

    def __init__(self, expression: str) -> None: ...

    def after(self, moment: datetime) -> datetime:
        return datetime.fromtimestamp((moment.timestamp() // STEP + 1) * STEP, UTC)

    def latest(self, moment: datetime) -> datetime:
        return self.after(moment) - timedelta(seconds=STEP)


OFTEN = RuntimeTimings(scheduler=SchedulerTimings(ticks_of=EveryHalfSecond))


@pytest.fixture
def all_runtimes(runtimes: AsyncExitStack) -> AsyncExitStack:
    """With the one that a test itself starts."""
    runtimes.push_async_callback(host.astop)
    return runtimes


@on_databases
async def test_each_tick_is_had_once_by_three_runtimes(
    store: str, all_runtimes: AsyncExitStack
) -> None:
    """Whichever comes first; none is left out."""
    runs: Counter[float] = Counter()

    @task(name="cron.tick", cron="* * * * *")
    async def tick() -> None:
        runs[time.time() // STEP] += 1

    for _ in range(3):
        await other_process(all_runtimes, OFTEN)
    await eventually(lambda: runs.total() >= 5)
    await all_runtimes.aclose()
    listed = await service.alist(SYSTEM, name="cron.tick", limit=100)
    ticks = sorted(snapshot.created_at.timestamp() // STEP for snapshot in listed)
    assert len(ticks) >= 5
    assert len(set(ticks)) == len(ticks)
    assert ticks == [ticks[0] + number for number in range(len(ticks))]
    assert {snapshot.owner_id for snapshot in listed} == {None}


@on_databases
@pytest.mark.parametrize("catch_up", [True, False])
async def test_what_was_missed_while_all_were_down(
    store: str, monkeypatch: pytest.MonkeyPatch, all_runtimes: AsyncExitStack, catch_up: bool
) -> None:
    """One run makes up for all missed ticks, where the task says so; the first start has none."""

    @task(name="cron.yearly", cron="0 0 1 1 *", catch_up=catch_up)
    async def yearly() -> None: ...

    first = await other_process(all_runtimes)
    await asyncio.sleep(0.3)
    await all_runtimes.aclose()
    assert await service.alist(SYSTEM) == []

    from asgiref.sync import sync_to_async

    from rail_async_tasks.models import TaskSchedule

    row = await TaskSchedule.objects.aget(name="cron.yearly")
    row.last_tick = datetime(2020, 6, 1, tzinfo=UTC)
    await sync_to_async(row.save)()
    assert first is not None
    for _ in range(2):
        await other_process(all_runtimes)

    async def found() -> int:
        return len(await service.alist(SYSTEM, status="completed"))

    deadline = time.monotonic() + (10 if catch_up else 1)
    while await found() < 1 and time.monotonic() < deadline:  # noqa: ASYNC110 (a row sends no signal)
        await asyncio.sleep(0.05)
    await all_runtimes.aclose()
    assert await found() == (1 if catch_up else 0)


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
    store: str, all_runtimes: AsyncExitStack
) -> None:
    """Later ticks find it, like any other start of it."""
    go = asyncio.Event()

    @task(name="cron.unique", cron="* * * * *", unique=True)
    async def unique() -> None:
        await go.wait()

    runtime = await other_process(all_runtimes, OFTEN)
    await eventually(lambda: runtime.attempts)
    first = next(iter(runtime.attempts))
    await asyncio.sleep(3 * STEP)
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

    assert abs(await runtime.services.upkeep.scheduler.clock.now() - await ahead()) < timedelta(
        seconds=1
    )
