"""A clock that was ahead, and came back: what it made happen later happens all the same."""

from __future__ import annotations

import logging
import time
from collections import Counter
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import msgspec
import pytest

from rail_async_tasks import RateLimited, task
from rail_async_tasks.access import Viewer
from rail_async_tasks.handle import TaskHandle
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.models import TaskExecution, TaskSchedule
from rail_async_tasks.runtime.upkeep import ledger_clock
from tests.integration.test_cron_errors import Often
from tests.support.runtimes import Configure, on_databases
from tests.support.timings import Timings
from tests.support.waiting import eventually, final

pytestmark = pytest.mark.usefixtures("ends_cleanly")

YEARS = timedelta(days=3650)
runs: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def quick(timings: Timings) -> None:
    """Schedules tick, and rows are looked at, all the time."""
    timings.set("scheduler", ticks_of=Often)
    timings.set("scheduler", longest_sleep=0.05)
    timings.set("reconciler", interval=0.02)
    runs.clear()


def declare() -> None:
    @task(name="ahead.tick", cron="* * * * *")
    async def tick() -> None:
        runs["tick"] += 1


async def more() -> None:
    """Returns when the scheduled task has run twice from now on."""
    enough = runs["tick"] + 2
    await eventually(lambda: runs["tick"] >= enough)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The WARNING lines that name the task."""
    return [
        it.getMessage() for it in caplog.records
        if it.levelno == logging.WARNING and "ahead.tick" in it.getMessage()
    ]  # fmt: skip


async def test_a_schedule_goes_on_when_the_clock_comes_back(
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    timings: Timings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also the one in memory that waits for a tick in ten years; a WARNING names it."""
    timings.set("scheduler", read_clock_every=0.0)
    declare()
    runtime = await host.aruntime()
    await more()
    ledger = type(runtime.ledger)
    right = ledger.now

    async def wrong(self: Any) -> datetime:
        return await right(self) + YEARS

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "now", wrong)
        await more()
        assert warnings(caplog) == []
    await more()
    assert len(warnings(caplog)) == 1
    assert "was ahead" in warnings(caplog)[0]


@on_databases
async def test_a_tick_of_the_future_on_record(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a process that has gone since is set back by the next one at its start."""
    declare()
    wrong = datetime.now(UTC) + YEARS
    await TaskSchedule.objects.acreate(name="ahead.tick", last_tick=wrong)
    await host.aruntime()
    await more()
    assert len(warnings(caplog)) == 1
    row = await TaskSchedule.objects.aget(name="ahead.tick")
    assert row.last_tick < datetime.now(UTC) + timedelta(minutes=1)


async def test_this_machines_clock_moves_no_tick(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be set between two looks at the ledger's."""
    runtime = await host.aruntime()
    before = await runtime.services.upkeep.scheduler.clock.now()

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + YEARS

    monkeypatch.setattr(ledger_clock, "datetime", Wrong)
    assert (
        timedelta(0)
        <= await runtime.services.upkeep.scheduler.clock.now() - before
        < timedelta(minutes=1)
    )


async def test_a_retry_of_the_future_comes_in_time(configure: Configure, timings: Timings) -> None:
    """The row was written while the clock was ahead; nothing else wakes it."""
    timings.set("reconciler", times_every=1)

    @task(name="ahead.late")
    async def late() -> int:
        return 7

    # It is not due before its row has been changed, however long that takes.
    handle: TaskHandle[Any] = await late.using(delay=3600).aenqueue()
    ahead = datetime.now(UTC) + YEARS
    soon = ahead + timedelta(seconds=0.5)
    ledger = host.ledger()
    if isinstance(ledger, MemoryLedger):
        row = ledger.store.rows[handle.id]
        row.snapshot = msgspec.structs.replace(
            row.snapshot, created_at=ahead, updated_at=ahead, run_after=soon
        )
    else:
        rows = TaskExecution.objects.filter(id=handle.id)
        await rows.aupdate(created_at=ahead, updated_at=ahead, run_after=soon)
    assert (await final(handle)).result == 7


async def test_starts_of_the_future_are_no_rate(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner whose starts were stored while the clock was ahead may start others."""
    configure(rate_limit="2/h")

    @task(name="ahead.rated")
    async def rated() -> None: ...

    bound = rated.using(owner=Viewer("1").user_id)
    with monkeypatch.context() as patch:
        now, now_ns = time.time, time.time_ns
        seconds = int(YEARS.total_seconds())
        patch.setattr(time, "time", lambda: now() + seconds)
        patch.setattr(time, "time_ns", lambda: now_ns() + seconds * 10**9)
        for _ in range(2):
            await bound.aenqueue()
        with pytest.raises(RateLimited):
            await bound.aenqueue()
    for _ in range(2):
        await bound.aenqueue()
    with pytest.raises(RateLimited) as refused:
        await bound.aenqueue()
    assert refused.value.retry_after is not None
    assert refused.value.retry_after <= 3600
