"""The local dispatcher: claims due rows for as many slots as are free, one claim at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

import msgspec

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.ledger.errors import is_of_row
from rail_async_tasks.ledger.port import Claims, Congestion, Surveys
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.claims.pauses import Pauses
from rail_async_tasks.runtime.claims.rates import Rates
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.claims.surveys import Surveyor
from rail_async_tasks.runtime.due import POLL_SECONDS, Due
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

logger = get_logger("rail_async_tasks.runtime")


class LocalTimings(msgspec.Struct, frozen=True, kw_only=True):
    """The pauses of the local dispatcher, in seconds."""

    # After a claim that failed, half of it to all of it: every process asks a database that fails.
    failure_pause: float = 1.0


class ClaimsDue(Due):
    """Due rows that this process may claim, by queue and kind of body: counted by its slots.

    Args:
        rows_left: is called where rows are due that can't start here: for want of a slot, or of
            the task.
    """

    def __init__(
        self,
        *,
        slots: Slots,
        registry: Registry,
        state: RuntimeState,
        pauses: Pauses,
        poll_seconds: float = POLL_SECONDS,
        longest_poll: Callable[[], float] = lambda: POLL_SECONDS,
        rows_left: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(state=state, poll_seconds=poll_seconds, longest_poll=longest_poll)
        self._rows_left = rows_left
        self._slots = slots
        self._registry = registry
        self._pauses = pauses

    def expect(self, name: str, queue: str) -> None:
        definition = self._registry.get(name)
        if definition is None:  # not ours to claim
            self._rows_left()
            return
        in_thread = not definition.is_coroutine
        self._slots.expect(queue, in_thread)
        self._wake.set()
        if self._slots.room(queue, in_thread) <= 0 and queue not in self._slots.stopped:
            self._rows_left()

    def slot_freed(self, queue: str) -> None:
        if not self._wake.is_set() and self._slots.worth_a_claim:
            self._wake.set()

    def expect_all(self) -> None:
        self._slots.expect_all()
        if self._slots.any_full:
            self._rows_left()

    def expect_in(self, queue: str) -> None:
        self._slots.expect_in(queue)

    def claimed(self) -> None:
        """A claim was made, and what it found has started.

        Other processes may take what has no slot here.
        """
        self.acted()
        if self._slots.crowded:
            self._rows_left()

    def refilled(self, queue: str) -> None:
        """The queue's rate may have a token again."""
        self._slots.refill(queue)
        self._wake.set()

    @property
    def any_due(self) -> bool:
        return self._slots.worth_a_claim or self._pauses.outdated

    @property
    def may_act(self) -> bool:
        return self._state.holding


class DispatcherLedger(Claims, Congestion, Surveys, Protocol):
    """The ports of the ledger that the local dispatcher uses."""


class LocalDispatcher:
    """Claims due executions for this process and starts them.

    Args:
        start: starts a claimed execution, which was claimed under that runtime id.
        suspects_running: returns whether an execution runs here that may have crashed a process.
        running_by_owner: returns how many attempts of each owner run in a queue; "" is none.
        max_crashes: executions that were lost with so many processes are suspects.
    """

    def __init__(  # noqa: PLR0913 (collaborators)
        self,
        *,
        ledger: DispatcherLedger,
        registry: Registry,
        slots: Slots,
        state: RuntimeState,
        due: ClaimsDue,
        start: Callable[[Claimed, UUID], None],
        pauses: Pauses,
        suspects_running: Callable[[], bool],
        running_by_owner: Callable[[str], dict[str, int]],
        max_crashes: int,
        timings: LocalTimings = LocalTimings(),  # noqa: B008 (frozen)
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._slots = slots
        self._state = state
        self._due = due
        self._start = start
        self._pauses = pauses
        self._suspects_running = suspects_running
        self._running_by_owner = running_by_owner
        self._crashes = max(max_crashes, 1)
        pause = timings.failure_pause
        self._rates = Rates(slots=slots, refilled=due.refilled)
        self._survey = Surveyor(ledger=ledger, due=due, pauses=pauses, queues=slots.queues).survey
        self._backoff = Backoff("A claim failed", log=logger, shortest=pause, longest=pause)
        self.claims = 0

    async def run(self) -> None:
        """Claims whenever rows may be due, until the runtime drains."""
        while not self._state.draining:
            try:
                if self._due.needs_survey and self._may_claim:
                    await self._survey()
                if self._due.any_due and self._may_claim:
                    await self._claim()
            except Exception as error:
                pause = self._backoff.failed(describe(error), error, expected=not is_of_row(error))
                await self._due.sleep(pause)
            else:
                self._backoff.recovered()
            await asyncio.sleep(0)  # a claim in memory never waits by itself
            await self._due.until_needed()
        self._due.end()

    @property
    def _may_claim(self) -> bool:
        """Asked after each wait: a drain that has begun meanwhile hands rows back."""
        return self._state.holding and not self._state.draining

    async def _claim(self) -> None:
        while self._ledger.congested:
            await self._ledger.relieved()
        await self._pauses.up_to_date()
        if not self._may_claim:
            return
        slots = self._slots
        plan = slots.plan(
            self._state.id,
            self._registry.coroutine_names,
            self._registry.thread_names,
            crashes=self._crashes,
            suspects=not self._suspects_running(),
            running=self._turns,
        )
        try:
            result = await self._ledger.claim(plan)
        except BaseException:
            slots.learn(None)
            raise
        self.claims += 1
        slots.learn(plan)
        for queue, seconds in plan.resting.items():
            self._rates.rest(queue, seconds)
        for claimed in result.claimed:
            try:
                self._start(claimed, plan.runtime_id)
            except Exception:  # its neighbours start all the same
                logger.exception("Task %s was claimed and did not start", claimed.snapshot.id)
        self._due.claimed()
        if slots.rates:
            self._rates.started(result.claimed)
        if result.next_due is not None:
            self._due.due_in(max(result.next_due, 0.0))

    def _turns(self, queue: str) -> dict[str, int]:
        """Returns how many turns each owner has had: what runs, and what a rate has let start."""
        return self._rates.turns(queue, self._running_by_owner(queue))
