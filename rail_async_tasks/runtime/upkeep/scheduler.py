"""The scheduler: starts tasks with `cron`, each tick once, however many processes are up.

Every process tries to take every tick; the ledger lets one of them have it. A tick that passed
while no process was up is made up for, once, where the task says `catch_up`. An error of one
schedule is logged and concerns that schedule alone, which goes on with its next tick.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import ConfigurationError, TaskError
from rail_async_tasks.hooks import awaited
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import Created, NewExecution
from rail_async_tasks.ledger.upkeep import Clock, Schedules
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.attempts.options import resolve_options
from rail_async_tasks.runtime.tracing import tracer_for
from rail_async_tasks.runtime.unique import unique_key
from rail_async_tasks.runtime.upkeep.clock import boottime
from rail_async_tasks.runtime.upkeep.cron import Schedule
from rail_async_tasks.runtime.upkeep.ledger_clock import READ_EVERY_SECONDS, LedgerClock
from rail_async_tasks.runtime.upkeep.persistence import PersistentCalls
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe, sentence

logger = get_logger("rail_async_tasks.runtime")

# The least by which two ticks differ for every database.
MOMENT = timedelta(microseconds=1)


class Ticks(Protocol):
    """The moments of a schedule. See `cron.Schedule`."""

    def after(self, moment: datetime) -> datetime | None:
        """Returns the first tick after that time; None if there is none to come."""
        ...

    def latest(self, moment: datetime) -> datetime | None:
        """Returns the last tick before that time, if there was one."""
        ...


class SchedulerTimings(msgspec.Struct, frozen=True, kw_only=True):
    """When schedules tick, and how long the scheduler waits, in seconds."""

    # Returns the ticks of a cron expression, or raises ConfigurationError.
    ticks_of: Callable[[str], Ticks] = Schedule
    # A process that comes to a tick so much later was not there for it: it slept.
    late: float = 60.0
    # The longest sleep in one piece: the ledger's clock may be set meanwhile.
    longest_sleep: float = 30.0
    # Before a schedule is followed anew that failed without coming to a tick.
    failure_pause: float = 60.0
    # Between two reads of the ledger's clock.
    read_clock_every: float = READ_EVERY_SECONDS


class SchedulerLedger(Clock, Schedules, Protocol):
    """The ports of the ledger that the scheduler uses."""


class Scheduler:
    """One loop per scheduled task.

    Args:
        arrived: is called with each execution that a tick has created here.
        clock: returns seconds that pass also while the machine sleeps.
    """

    def __init__(
        self,
        *,
        ledger: SchedulerLedger,
        registry: Registry,
        settings: TaskSettings,
        arrived: Callable[[NewExecution, Created], None],
        timings: SchedulerTimings = SchedulerTimings(),  # noqa: B008 (frozen)
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._settings = settings
        self._arrived = arrived
        self._timings = timings
        self._stop = asyncio.Event()
        # The tasks whose schedule failed at its last try.
        self._failing: set[str] = set()
        backoff = Backoff("The schedules are delayed", "They are tried again", log=logger)
        self._until_done = PersistentCalls(stop=self._stop, backoff=backoff).until_done
        self.clock = LedgerClock(
            lambda: self._until_done(ledger.now),
            read_every=timings.read_clock_every,
            clock=clock,
        )

    def stop(self) -> None:
        self._stop.set()

    @property
    def failing(self) -> list[str]:
        """The names of the tasks that their schedules could not start at the last try."""
        return sorted(self._failing)

    async def run(self) -> None:
        """Follows all schedules; returns after `stop`."""
        scheduled = [it for it in self._registry.definitions() if it.options.cron]
        if not scheduled:
            return
        async with asyncio.TaskGroup() as group:
            for definition in scheduled:
                group.create_task(self._keep(definition), name=f"cron {definition.name}")

    async def _keep(self, definition: TaskDefinition) -> None:
        """Follows one schedule; begins anew after an error that was not one of a tick."""

        async def follow() -> None:
            ticks = self._ticks_of(definition)
            if ticks is not None:
                await self._follow(definition, ticks)

        while not self._stop.is_set():
            try:
                await awaited(follow, "The schedule")
            except Exception as error:
                self._failed(definition, error)
            else:
                return
            await self._pause(self._timings.failure_pause)

    def _ticks_of(self, definition: TaskDefinition) -> Ticks | None:
        """Returns the ticks of the task's schedule; None, and logs it, where it is none."""
        assert definition.options.cron is not None
        try:
            return self._timings.ticks_of(definition.options.cron)
        except ConfigurationError as error:
            self._failing.add(definition.name)
            logger.error("The task %s does not run: %s", definition.name, error)  # noqa: TRY400
            return None

    async def _follow(self, definition: TaskDefinition, ticks: Ticks) -> None:
        since = await self.clock.now()
        await self._until_done(lambda: self._ledger.schedule(definition.name, since))
        await self._set_back(definition, ticks, since, to=since)
        missed = ticks.latest(since)
        if missed is not None and definition.options.catch_up:
            await self._go_for(definition, ticks, missed)
        late = timedelta(seconds=self._timings.late)
        while not self._stop.is_set():
            now = await self.clock.now()
            since = min(since, now)  # a clock that was ahead has come back
            tick = ticks.after(since)
            if tick is None:
                return
            if tick > now:
                await self._pause(min((tick - now).total_seconds(), self._timings.longest_sleep))
                continue
            if now - tick < late or definition.options.catch_up:
                await self._go_for(definition, ticks, tick)
            since = now

    # --- one tick --------------------------------------------------------------------------------

    async def _go_for(self, definition: TaskDefinition, ticks: Ticks, tick: datetime) -> None:
        """Starts the task, unless another process has. After an error the next tick is tried."""
        try:
            await awaited(lambda: self._start(definition, ticks, tick), "The start")
        except Exception as error:
            self._failed(definition, error)
        else:
            if definition.name in self._failing:
                self._failing.discard(definition.name)
                logger.info("The schedule of the task %s works again", definition.name)

    async def _start(self, definition: TaskDefinition, ticks: Ticks, tick: datetime) -> None:
        tracer = tracer_for(self._settings)
        new = self._new(definition)
        if tracer is None:
            await self._take(definition, ticks, tick, new)
            return
        with tracer.sending([new]) as sending:
            created = await self._take(definition, ticks, tick, sending.news[0])
            if created is None or created.existing is not None:
                sending.discard()  # another process has the tick, or the last one still runs

    async def _take(
        self, definition: TaskDefinition, ticks: Ticks, tick: datetime, new: NewExecution
    ) -> Created | None:
        """Starts the task, unless another process has; returns what was created here."""
        ledger, name = self._ledger, definition.name
        created = await self._until_done(lambda: ledger.tick(name, tick, new))
        if created is None:
            now = await self.clock.now()
            if await self._set_back(definition, ticks, now, to=tick - MOMENT):
                created = await self._until_done(lambda: ledger.tick(name, tick, new))
        if created is not None:
            self._arrived(new, created)
        return created

    async def _set_back(
        self, definition: TaskDefinition, ticks: Ticks, now: datetime, *, to: datetime
    ) -> bool:
        """Corrects a tick that was taken while the ledger's clock was ahead; returns if one was.

        Until that time came round again the schedule would be silent. A tick that is no later than
        the next one may be another process's, whose idea of the time is a moment ahead of ours.
        """
        latest = ticks.after(now) or now
        ledger, name = self._ledger, definition.name
        if not await self._until_done(lambda: ledger.set_back(name, latest, to)):
            return False
        logger.warning(
            "The task %s has a tick on record that is later than its next one, %s: the clock of the"
            " database (on SQLite, of this machine) was ahead. Its schedule goes on from %s.",
            name, latest.isoformat(), to.isoformat(),
        )  # fmt: skip
        return True

    def _failed(self, definition: TaskDefinition, error: Exception) -> None:
        self._failing.add(definition.name)
        expected = isinstance(error, ConfigurationError | TaskError)
        logger.error(
            "The schedule of the task %s (cron=%r) could not start it: %s Mend what this names; it"
            " is tried again at the next tick. Other tasks and schedules go on.",
            definition.name, definition.options.cron, sentence(describe(error)),
            exc_info=None if expected else error,
        )  # fmt: skip

    async def _pause(self, seconds: float) -> None:
        """Returns early once the runtime stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    def _new(self, definition: TaskDefinition) -> NewExecution:
        options = resolve_options(definition, self._settings)
        arguments = definition.encode({})
        return NewExecution(
            id=new_id(),
            name=definition.name,
            queue=options.queue,
            priority=options.priority,
            arguments=definition.stored(arguments),
            unique_key=unique_key(definition, arguments),
            max_retries=options.retry.max_retries,
            rerun_on_crash=definition.options.rerun_on_crash,
            actor="cron",
        )
