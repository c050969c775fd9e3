"""The scheduler: each tick once, missed ones as the task says, each schedule by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from django.db import OperationalError

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.conf import TaskSettings, get_settings
from rail_async_tasks.declaration.definition import define
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.records import Created, NewExecution
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.upkeep.ledger_clock import LedgerClock
from rail_async_tasks.runtime.upkeep.persistence import PersistentCalls
from rail_async_tasks.runtime.upkeep.scheduler import Scheduler, SchedulerTimings
from rail_async_tasks.safe_logging import get_logger
from tests.support.clock import START, FakeClock
from tests.support.ledgers import new_execution

MINUTE = timedelta(minutes=1)


class EveryMinute:
    """Ticks at each full minute of the test's clock, but not before so many failures."""

    failures: ClassVar[dict[str, list[type[BaseException]]]] = {}

    def __init__(self, expression: str) -> None:
        if expression == "bad":
            raise ConfigurationError("'bad' is no cron expression.")
        if self.failures.get(expression):
            raise self.failures[expression].pop()("no time zone")

    def after(self, moment: datetime) -> datetime | None:
        return START + MINUTE * ((moment - START) // MINUTE + 1)

    def latest(self, moment: datetime) -> datetime | None:
        return self.after(moment - MINUTE)


class Shown(MemoryLedger):
    """A ledger whose clock is not the machine's; it fails while a test wants it to."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self.error: Exception | None = None
        self.failing_names: set[str] = set()
        self.failing_by: type[BaseException] = ValueError
        self.reads = 0

    async def now(self) -> datetime:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return await super().now()

    async def tick(self, name: str, at: datetime, new: NewExecution) -> Created | None:
        if name in self.failing_names:
            raise self.failing_by("no key")
        return await super().tick(name, at, new)


@pytest.fixture
async def ledger(clock: FakeClock) -> Shown:
    return Shown(clock.now)


async def tick() -> None:
    """A scheduled task."""


@pytest.fixture
def settings() -> TaskSettings:
    return get_settings()


Run = Callable[..., Scheduler]


@pytest.fixture
async def arrived() -> list[NewExecution]:
    return []


@pytest.fixture
async def run(
    ledger: Shown, settings: TaskSettings, arrived: list[NewExecution], clock: FakeClock
) -> AsyncIterator[Run]:
    """Starts a scheduler for tasks, given as names and options."""
    running: list[tuple[Scheduler, asyncio.Task[None]]] = []

    def start(cron: str = "* * * * *", *others: str, **options: Any) -> Scheduler:
        registry = Registry()
        for number, expression in enumerate((cron, *others)):
            registry.register(define(tick, name=f"tick{number}", cron=expression, **options))
        scheduler = Scheduler(
            ledger=ledger, registry=registry, settings=settings,
            arrived=lambda new, created: arrived.append(new), clock=clock.monotonic,
            timings=SchedulerTimings(ticks_of=EveryMinute),
        )  # fmt: skip
        running.append((scheduler, asyncio.create_task(scheduler.run())))
        return scheduler

    yield start
    for scheduler, task in running:
        scheduler.stop()
        await task


async def test_a_task_is_started_at_each_tick(
    run: Run, arrived: list[NewExecution], ledger: Shown, clock: FakeClock
) -> None:
    """Not before, and once."""
    run()
    await clock.advance(59)
    assert arrived == []
    await clock.advance(2)
    assert [it.name for it in arrived] == ["tick0"]
    assert arrived[0].actor == "cron"
    await clock.advance(120)
    assert len(arrived) == len(ledger) == 3


async def test_a_tick_is_one_processs(
    run: Run, arrived: list[NewExecution], clock: FakeClock
) -> None:
    """However many follow the schedule."""
    for _ in range(3):
        run()
    await clock.advance(150)
    assert len(arrived) == 2


@pytest.mark.parametrize(("catch_up", "count"), [(True, 1), (False, 0)])
async def test_ticks_that_were_missed(
    run: Run, ledger: Shown, arrived: list[NewExecution], clock: FakeClock, catch_up: bool,
    count: int,
) -> None:  # fmt: skip
    """While no process was up: made up for once, where the task says so."""
    await ledger.schedule("tick0", clock.now() - timedelta(hours=1))
    run(catch_up=catch_up)
    await clock.advance(1)
    assert len(arrived) == count


@pytest.mark.parametrize(("catch_up", "count"), [(True, 1), (False, 0)])
async def test_a_process_that_slept_through_ticks(
    run: Run, arrived: list[NewExecution], clock: FakeClock, catch_up: bool, count: int
) -> None:
    """Takes one of them, where the task says so."""
    run(catch_up=catch_up)
    await clock.advance(1)
    clock.jump(600.5)  # from 12:00:01 to 12:10:01.5
    await clock.settle()
    assert len(arrived) == count


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit])
async def test_an_error_of_one_schedule_is_its_own(
    run: Run, ledger: Shown, arrived: list[NewExecution], clock: FakeClock,
    caplog: pytest.LogCaptureFixture, error: type[BaseException],
) -> None:  # fmt: skip
    """It is named, and tried again at the next tick."""
    ledger.failing_names, ledger.failing_by = {"tick0"}, error
    scheduler = run("* * * * *", "* * * * *")
    await clock.advance(61)
    assert [it.name for it in arrived] == ["tick1"]
    assert scheduler.failing == ["tick0"]
    assert "The schedule of the task tick0" in caplog.text
    ledger.failing_names = set()
    await clock.advance(60)
    assert {it.name for it in arrived[1:]} == {"tick0", "tick1"}
    assert scheduler.failing == []


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, StopIteration, asyncio.CancelledError, GeneratorExit]
)
async def test_a_schedule_whose_ticks_can_not_be_had(
    run: Run, arrived: list[NewExecution], clock: FakeClock, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, error: type[BaseException],
) -> None:  # fmt: skip
    """The others go on, and it is tried again after a while: the error may pass."""
    monkeypatch.setattr(EveryMinute, "failures", {"0 * * * *": [error]})
    scheduler = run("0 * * * *", "* * * * *")
    await clock.advance(1)
    assert scheduler.failing == ["tick0"]
    assert "The schedule of the task tick0" in caplog.text
    await clock.advance(60)
    assert [it.name for it in arrived] == ["tick1"]
    await clock.advance(60)
    assert {it.name for it in arrived[1:]} == {"tick0", "tick1"}
    assert scheduler.failing == []


async def test_a_wrong_expression_is_named(
    run: Run, arrived: list[NewExecution], clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The others go on."""
    scheduler = run("bad", "* * * * *")
    await clock.advance(61)
    assert scheduler.failing == ["tick0"]
    assert [it.name for it in arrived] == ["tick1"]
    assert "The task tick0 does not run" in caplog.text


async def test_a_tick_of_the_future_on_record_silences_no_schedule(
    run: Run, ledger: Shown, arrived: list[NewExecution], clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A clock that was ahead has taken it: it is set back at the start."""
    await ledger.schedule("tick0", clock.now() + timedelta(days=3650))
    run()
    await clock.advance(1)
    assert "has a tick on record that is later than its next one" in caplog.text
    await clock.advance(60)
    assert len(arrived) == 1


async def test_a_tick_that_is_taken_too_early_meanwhile_is_set_back(
    run: Run, ledger: Shown, arrived: list[NewExecution], clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Another process has taken it while the clock was ahead."""
    run()
    await clock.advance(1)
    early = clock.now() + timedelta(days=3650)
    assert await ledger.tick("tick0", early, new_execution(name="tick0")) is not None
    await clock.advance(60)
    assert len(arrived) == 1
    assert "has a tick on record that is later than its next one" in caplog.text


async def test_a_database_that_is_away_delays_a_schedule(
    run: Run, ledger: Shown, arrived: list[NewExecution], clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """It is no error of the schedule; the next tick is taken once the database is back."""
    ledger.error = OperationalError("away")
    scheduler = run()
    await clock.advance(30)
    assert "The schedules are delayed: away" in caplog.text
    ledger.error = None
    await clock.advance(40)
    assert len(arrived) == 1
    assert scheduler.failing == []


# --- the ledger's clock ---------------------------------------------------------------------------


async def test_the_ledgers_clock_is_read_once_a_minute(ledger: Shown, clock: FakeClock) -> None:
    """A steady clock counts in between."""
    ledger_clock = LedgerClock(ledger.now, clock=clock.monotonic)
    for _ in range(5):
        assert await ledger_clock.now() == clock.now()
        clock.jump(10)
    assert ledger.reads == 1
    clock.jump(20)
    assert await ledger_clock.now() == clock.now()
    assert ledger.reads == 2


async def test_a_clock_that_can_not_be_read_goes_on(ledger: Shown, clock: FakeClock) -> None:
    """From what was read last, and from this machine's before."""

    async def never() -> None:
        return None

    ledger_clock = LedgerClock(never, clock=clock.monotonic, start=START)
    assert await ledger_clock.now() == START


# --- calls that are repeated ----------------------------------------------------------------------


async def test_a_call_is_repeated_while_the_database_fails(clock: FakeClock) -> None:
    """Another error is raised at once."""
    errors = [OperationalError("away")] * 3
    backoff = Backoff("The schedules are delayed", log=get_logger("rail_async_tasks.runtime"))
    calls = PersistentCalls(stop=asyncio.Event(), backoff=backoff)

    async def call() -> int:
        if errors:
            raise errors.pop()
        return 7

    task = asyncio.create_task(calls.until_done(call))
    await clock.advance(5)
    assert task.result() == 7

    async def wrong() -> None:
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        await calls.until_done(wrong)


@pytest.mark.parametrize("how", ["hangs", "fails"])
async def test_a_stop_ends_a_call_at_once(clock: FakeClock, how: str) -> None:
    """A database that is away must not hold up the end of the process."""
    stop = asyncio.Event()
    backoff = Backoff("The schedules are delayed", log=get_logger("rail_async_tasks.runtime"))

    async def call() -> None:
        if how == "fails":
            raise OperationalError("away")
        await asyncio.Event().wait()

    task = asyncio.create_task(PersistentCalls(stop=stop, backoff=backoff).until_done(call))
    await clock.settle()
    stop.set()
    await clock.settle()
    assert task.result() is None
