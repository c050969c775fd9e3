"""Cron: starts the tasks that run by themselves, each tick once, however many processes are up.

Every process goes for every tick; the ledger lets one of them have it. A tick that passed while no
process was up is made up for, once, where the task says `catch_up`. An error of one schedule is
logged and concerns that schedule alone, which goes on with its next tick.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from rail_async_tasks.backoff import Trouble
from rail_async_tasks.definition import TaskDefinition
from rail_async_tasks.errors import ConfigurationError, TaskError
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.runtime.attempts.options import resolve_options
from rail_async_tasks.runtime.unique import unique_key
from rail_async_tasks.runtime.upkeep.cron import Schedule
from rail_async_tasks.runtime.upkeep.lease import boottime
from rail_async_tasks.runtime.upkeep.supervision import is_of_row
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime

logger = get_logger("rail_async_tasks.runtime")

T = TypeVar("T")

# A process that comes to a tick so much later (seconds) was not there for it: it slept.
LATE = 60.0
# The longest sleep in one piece, in seconds: the ledger's clock may be set meanwhile.
NAP = 30.0
# Before a schedule is followed anew that failed without coming to a tick, in seconds.
FAILURE_PAUSE = 60.0
# How often the ledger is asked for its time, in seconds.
ASK_EVERY = 60.0
# The least by which two ticks differ for every database.
MOMENT = timedelta(microseconds=1)


class Cron:
    """One loop per scheduled task, children of the runtime's group."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = asyncio.Event()
        # The tasks whose schedule failed at its last try.
        self._failing: set[str] = set()
        # What the ledger's clock, which all processes have in common, showed, and when by ours.
        self._shown = datetime.now(UTC)
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()
        self._trouble = Trouble("The schedules are delayed", "They are tried again", logger)

    def stop(self) -> None:
        self._stop.set()

    @property
    def failing(self) -> list[str]:
        """The names of the tasks that their schedules could not start when last they tried."""
        return sorted(self._failing)

    async def run(self) -> None:
        """Returns after `stop`."""
        scheduled = [it for it in self._runtime.registry.definitions() if it.options.cron]
        if not scheduled:
            return
        async with asyncio.TaskGroup() as group:
            for definition in scheduled:
                group.create_task(self._keep(definition), name=f"cron {definition.name}")

    async def _keep(self, definition: TaskDefinition) -> None:
        """Follows one schedule; begins anew after an error that was none of a tick."""
        assert definition.options.cron is not None
        try:
            schedule = Schedule(definition.options.cron)
        except ConfigurationError as error:
            self._failing.add(definition.name)
            logger.error("The task %s does not run: %s", definition.name, error)  # noqa: TRY400
            return
        while not self._stop.is_set():
            try:
                await self._follow(definition, schedule)
            except Exception as error:
                self._failed(definition, error)
            else:
                return
            await self._pause(FAILURE_PAUSE)

    async def _follow(self, definition: TaskDefinition, schedule: Schedule) -> None:
        since = await self._now()
        await self._until_done(lambda: self._runtime.ledger.schedule(definition.name, since))
        await self._set_back(definition, schedule, since, to=since)
        missed = schedule.latest(since)
        if missed is not None and definition.options.catch_up:
            await self._go_for(definition, schedule, missed)
        while not self._stop.is_set():
            now = await self._now()
            since = min(since, now)  # a clock that was ahead has come back
            tick = schedule.after(since)
            if tick is None:
                return
            if tick > now:
                await self._pause(min((tick - now).total_seconds(), NAP))
                continue
            if now - tick < timedelta(seconds=LATE) or definition.options.catch_up:
                await self._go_for(definition, schedule, tick)
            since = now

    async def _now(self) -> datetime:
        """By the ledger's clock, read once a minute; in between a steady clock counts."""
        async with self._asking:
            if self._asked_at is None or boottime() - self._asked_at > ASK_EVERY:
                shown = await self._until_done(self._runtime.ledger.now)
                if shown is not None:
                    self._shown, self._asked_at = shown, boottime()
        passed = 0.0 if self._asked_at is None else boottime() - self._asked_at
        return self._shown + timedelta(seconds=passed)

    # --- one tick --------------------------------------------------------------------------------

    async def _go_for(self, definition: TaskDefinition, schedule: Schedule, tick: datetime) -> None:
        """Starts the task, unless another process has. An error is for the next tick to mend."""
        try:
            await self._start(definition, schedule, tick)
        except Exception as error:
            self._failed(definition, error)
        else:
            if definition.name in self._failing:
                self._failing.discard(definition.name)
                logger.info("The schedule of the task %s works again", definition.name)

    async def _start(self, definition: TaskDefinition, schedule: Schedule, tick: datetime) -> None:
        new = self._new(definition)
        ledger, name = self._runtime.ledger, definition.name
        created = await self._until_done(lambda: ledger.tick(name, tick, new))
        if created is None:
            now = await self._now()
            if await self._set_back(definition, schedule, now, to=tick - MOMENT):
                created = await self._until_done(lambda: ledger.tick(name, tick, new))
        if created is not None:
            self._runtime.arrived(new, created)

    async def _set_back(
        self, definition: TaskDefinition, schedule: Schedule, now: datetime, *, to: datetime
    ) -> bool:
        """Mends a tick that was taken while the ledger's clock was ahead; whether one was.

        Until that time came round again the schedule would be silent. A tick that is no later than
        the next one may be another process's, whose idea of the time is a moment ahead of ours.
        """
        latest = schedule.after(now) or now
        ledger, name = self._runtime.ledger, definition.name
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
            "The schedule of the task %s (cron=%r) could not start it: %s. Mend what this names; it"
            " is tried again at the next tick. Other tasks and schedules go on.",
            definition.name, definition.options.cron, describe(error).rstrip("."),
            exc_info=None if expected else error,
        )  # fmt: skip

    # --- waiting ---------------------------------------------------------------------------------

    async def _pause(self, seconds: float) -> None:
        """Returns early once the runtime stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _until_done(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Tries again while the database fails; None once the runtime stops.

        Raises:
            Exception: whatever the call raises for another reason.
        """
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            while not self._stop.is_set():
                attempt = asyncio.ensure_future(call())
                # A database that is away must not hold up the end of the process.
                await asyncio.wait({attempt, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not attempt.done():
                    attempt.cancel()
                    return None
                try:
                    result = attempt.result()
                except Exception as error:
                    if is_of_row(error):
                        raise
                    await asyncio.wait({stopped}, timeout=self._trouble.failed(describe(error)))
                else:
                    self._trouble.over()
                    return result
        finally:
            stopped.cancel()
        return None

    def _new(self, definition: TaskDefinition) -> NewExecution:
        options = resolve_options(definition, self._runtime.settings)
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
