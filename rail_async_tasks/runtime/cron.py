"""Cron: starts the tasks that run by themselves, each tick once, however many processes are up.

Every process goes for every tick; the ledger lets one of them have it. A tick that passed while no
process was up is made up for, once, where the task says `catch_up`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from rail_async_tasks.definition import TaskDefinition
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.port import NewExecution
from rail_async_tasks.runtime.effective import effective
from rail_async_tasks.runtime.schedule import Schedule
from rail_async_tasks.runtime.unique import unique_key
from rail_async_tasks.safe_logging import get_logger

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime

logger = get_logger("rail_async_tasks.runtime")

T = TypeVar("T")

# A process that comes to a tick so much later (seconds) was not there for it: it slept.
LATE = 60.0
# The longest sleep in one piece, in seconds: the machine's clock may be set meanwhile.
NAP = 30.0
FAILURE_PAUSE = 1.0
# How often the ledger is asked for its time, in seconds.
ASK_EVERY = 60.0


class Cron:
    """One loop per scheduled task, children of the runtime's group."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stop = asyncio.Event()
        # By how much the ledger's clock, which all processes have in common, is ahead of ours.
        self._ahead = timedelta(0)
        self._asked_at = float("-inf")

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Returns after `stop`."""
        scheduled = [it for it in self._runtime.registry.definitions() if it.options.cron]
        if not scheduled:
            return
        async with asyncio.TaskGroup() as group:
            for definition in scheduled:
                group.create_task(self._keep(definition), name=f"cron {definition.name}")

    async def _keep(self, definition: TaskDefinition) -> None:
        assert definition.options.cron is not None
        try:
            schedule = Schedule(definition.options.cron)
        except ConfigurationError as error:
            logger.error("The task %s does not run: %s", definition.name, error)  # noqa: TRY400
            return
        now = await self._now()
        await self._until_done(lambda: self._runtime.ledger.schedule(definition.name, now))
        missed = schedule.latest(now)
        if missed is not None and definition.options.catch_up:
            await self._go_for(definition, missed)
        while (tick := schedule.after(now)) is not None:
            now = await self._sleep_until(tick)
            if self._stop.is_set():
                return
            if now - tick < timedelta(seconds=LATE) or definition.options.catch_up:
                await self._go_for(definition, tick)
            now = max(now, tick)

    async def _sleep_until(self, tick: datetime) -> datetime:
        while (left := (tick - await self._now()).total_seconds()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), min(left, NAP))
            if self._stop.is_set():
                break
        return await self._now()

    async def _now(self) -> datetime:
        """By the ledger's clock, which is asked once a minute."""
        loop = self._runtime.loop
        if loop.time() - self._asked_at > ASK_EVERY:
            told = await self._until_done(self._runtime.ledger.now)
            if told is not None:
                self._ahead = told - datetime.now(UTC)
                self._asked_at = loop.time()
        return datetime.now(UTC) + self._ahead

    async def _go_for(self, definition: TaskDefinition, tick: datetime) -> None:
        new = self._new(definition)
        ledger = self._runtime.ledger
        created = await self._until_done(lambda: ledger.tick(definition.name, tick, new))
        if created is not None:
            self._runtime.arrived(new, created)

    async def _until_done(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Tries again while the ledger fails; None once the runtime stops."""
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
                    return attempt.result()
                except Exception as error:
                    logger.warning("A schedule is delayed: %s", error)
                await asyncio.wait({stopped}, timeout=FAILURE_PAUSE)
        finally:
            stopped.cancel()
        return None

    def _new(self, definition: TaskDefinition) -> NewExecution:
        options = effective(definition, self._runtime.settings)
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
