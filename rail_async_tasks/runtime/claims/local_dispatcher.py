"""The dispatcher: one claim at a time, for as many slots as are free, whenever a row may be due."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rail_async_tasks.backoff import Trouble
from rail_async_tasks.definition import Registry
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.due import POLL_SECONDS, Due
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.upkeep.supervision import is_of_row
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime

logger = get_logger("rail_async_tasks.runtime")

# After a claim that failed: the database is in trouble, and every process asks.
FAILURE_PAUSE = 1.0


class ClaimsDue(Due):
    """Due rows that this process may claim, by queue and kind of body: counted by its slots."""

    def __init__(
        self,
        *,
        slots: Slots,
        registry: Registry,
        state: RuntimeState,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        super().__init__(state=state, poll_seconds=poll_seconds)
        self._slots = slots
        self._registry = registry

    def expect(self, name: str, queue: str) -> None:
        definition = self._registry.get(name)
        if definition is None:  # not ours to claim
            return
        self._slots.expect(queue, not definition.is_coroutine)
        self._wake.set()

    def slot_freed(self) -> None:
        if not self._wake.is_set() and self._slots.worth_a_claim:
            self._wake.set()

    def expect_all(self) -> None:
        self._slots.expect_all()

    @property
    def any_due(self) -> bool:
        return self._slots.worth_a_claim

    @property
    def may_act(self) -> bool:
        return self._state.holding


class Dispatcher:
    """Claims due executions and starts them. Everything that is "later" is a row that comes due."""

    def __init__(self, runtime: Runtime, due: ClaimsDue) -> None:
        self._runtime = runtime
        self._due = due
        self._trouble = Trouble("A claim failed", f"The next try is in {FAILURE_PAUSE:g} s", logger)
        self.claims = 0

    async def run(self) -> None:
        runtime = self._runtime
        while not runtime.draining:
            try:
                if runtime.holding:
                    await self._claim()
            except Exception as error:
                self._trouble.failed(describe(error), error if is_of_row(error) else None)
                logger.debug("The claim that failed", exc_info=True)
                await asyncio.sleep(FAILURE_PAUSE)
                runtime.slots.expect_all()
            await asyncio.sleep(0)  # a claim in memory never waits by itself
            await self._due.until_needed()

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
        self._trouble.over()
        runtime.slots.learn(plan)
        for claimed in due.claimed:
            try:
                runtime.start_claimed(claimed, plan.runtime_id)
            except Exception:  # its neighbours start all the same
                logger.exception("Task %s was claimed and did not start", claimed.snapshot.id)
        if due.next_due is not None:
            self._due.due_in(max(due.next_due, 0.0))
