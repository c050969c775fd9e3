"""The dispatcher: one claim at a time, for as many slots as are free, whenever a row may be due."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.runtime.upkeep.supervision import is_of_row
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime

logger = get_logger("rail_async_tasks.runtime")

# Rows that another process has left are found within this time (seconds); the claim of an empty
# queue costs about a millisecond.
POLL_INTERVAL = 1.0
# After a claim that failed: every process of the fleet asks a database that fails.
FAILURE_PAUSE = 1.0


class Dispatcher:
    """Claims due executions and starts them. Everything that is "later" is a row that comes due."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()  # it has nothing to do, or had not when it looked last
        self._next_due: float | None = None  # by the loop's clock
        self._backoff = Backoff(
            "A claim failed", f"It is tried again in {FAILURE_PAUSE:g} s", log=logger
        )
        self.claims = 0

    def wake(self) -> None:
        self._wake.set()

    def expect(self, name: str, queue: str) -> None:
        """A due row of the task `name` is in the ledger."""
        definition = self._runtime.registry.get(name)
        if definition is None:  # not ours to claim
            return
        self._runtime.slots.expect(queue, not definition.is_coroutine)
        self._wake.set()

    def due_in(self, seconds: float) -> None:
        """A row comes due in so many seconds."""
        at = self._runtime.loop.time() + seconds
        if self._next_due is None or at < self._next_due:
            self._next_due = at
            self._wake.set()

    def slot_freed(self) -> None:
        if not self._wake.is_set() and self._runtime.slots.worth_a_claim:
            self._wake.set()

    async def caught_up(self) -> None:
        """Returns when nothing is left to claim that would find a slot."""
        while self._runtime.slots.worth_a_claim or not self._idle.is_set():
            self._idle.clear()
            await self._idle.wait()

    async def run(self) -> None:
        runtime = self._runtime
        while not runtime.draining:
            try:
                if runtime.holding:
                    await self._claim()
            except Exception as error:
                self._backoff.failed(describe(error), error, expected=not is_of_row(error))
                await asyncio.sleep(FAILURE_PAUSE)
                runtime.slots.expect_all()
            await asyncio.sleep(0)  # a claim in memory never waits by itself
            await self._until_needed()

    async def _until_needed(self) -> None:
        """Returns when a claim may find something: woken, a row due, or the poll interval over."""
        slots, loop = self._runtime.slots, self._runtime.loop
        poll_at = loop.time() + POLL_INTERVAL
        while not self._runtime.draining:
            now = loop.time()
            if (self._next_due is not None and now >= self._next_due) or now >= poll_at:
                self._next_due = None
                poll_at = now + POLL_INTERVAL
                slots.expect_all()
            if slots.worth_a_claim and self._runtime.holding:
                return
            wake_at = poll_at if self._next_due is None else min(poll_at, self._next_due)
            self._wake.clear()
            timer = loop.call_at(wake_at, self._wake.set)
            self._idle.set()
            try:
                await self._wake.wait()
            finally:
                self._idle.clear()
                timer.cancel()

    async def _claim(self) -> None:
        runtime = self._runtime
        while runtime.ledger.congested:
            await runtime.ledger.relieved()
        registry = runtime.registry
        plan = runtime.slots.plan(
            runtime.id,
            registry.coroutine_names,
            registry.thread_names,
            crashes=max(runtime.settings.max_crashes, 1),
            suspects=not runtime.suspects_running,
            running=runtime.running_by_owner,
        )
        try:
            due = await runtime.ledger.claim(plan)
        except BaseException:
            runtime.slots.learn(None)
            raise
        self.claims += 1
        self._backoff.recovered()
        runtime.slots.learn(plan)
        for claimed in due.claimed:
            try:
                runtime.start_claimed(claimed, plan.runtime_id)
            except Exception:  # its neighbours start all the same
                logger.exception("Task %s was claimed and did not start", claimed.snapshot.id)
        if due.next_due is not None:
            self.due_in(max(due.next_due, 0.0))
