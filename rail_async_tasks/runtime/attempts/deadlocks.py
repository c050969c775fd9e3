"""Keeps bodies that wait for other tasks from blocking those tasks.

While a body waits it keeps its slot. If waiting bodies keep all slots, the tasks that they wait for
can't begin. Such a task is run beside the limits of the process, one for each body that waits; a
queue's own `concurrency` is a promise about its tasks and is not exceeded.

A stray wait lends no slot: it may not be a body's. It is reported, if no body that holds a slot of
the awaited task has ended for a while.
"""

from __future__ import annotations

from typing import Protocol

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.dispatch_records import DeliveryClaim
from rail_async_tasks.ledger.port import InlineAttempts, LoopReads, Reads
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.ledger.upkeep import Clock, Dispatches
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.attempts.attempts import Attempts
from rail_async_tasks.runtime.attempts.held_slots import held_by_worker, held_slots
from rail_async_tasks.runtime.attempts.running import Running
from rail_async_tasks.runtime.attempts.timings import ATTEMPT_TIMINGS, AttemptTimings
from rail_async_tasks.runtime.attempts.waits import Wait, Waits
from rail_async_tasks.runtime.claims.plan import Line
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")


class WaitLedger(Reads, LoopReads, InlineAttempts, Clock, Protocol):
    """The ports of the ledger that the deadlock breaker uses."""

    def dispatches(self) -> Dispatches | None:
        """See `port.Ledger`."""
        ...


class DeadlockBreaker:
    """Looks at each wait: starts the awaited task beside the limits, or reports a deadlock.

    What a stray wait waits for is not started.

    Args:
        max_crashes: an execution that was lost with so many processes runs alone.
        runs_here: executions run in the process that claims them, not by way of a broker.
    """

    def __init__(
        self,
        *,
        state: RuntimeState,
        ledger: WaitLedger,
        registry: Registry,
        running: Running,
        slots: Slots,
        attempts: Attempts,
        waits: Waits,
        max_crashes: int,
        runs_here: bool = True,
        timings: AttemptTimings = ATTEMPT_TIMINGS,
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._registry = registry
        self._running = running
        self._slots = slots
        self._attempts = attempts
        self._waits = waits
        self._max_crashes = max_crashes
        self._runs_here = runs_here
        self._report_after = timings.wait_report_after

    async def look(self, wait: Wait, seconds: float) -> Line | None:
        """Does what can be done for a body that has waited for so many seconds.

        Returns the line in which the awaited task lacks a slot: a body that ends may free one.
        """
        awaited = wait.awaited
        definition = self._registry.get(awaited.name)
        if self._state.draining or awaited.id in self._running.by_id or definition is None:
            return None
        in_thread = not definition.is_coroutine
        if wait.attempt is None:
            await self._look_at_stray(wait, in_thread, seconds)
        elif not self._runs_here:
            await self._report_unbegun(wait, seconds)
        elif awaited.queue in self._slots.paused:
            self._report(wait, f"the queue {awaited.queue!r} is paused. Resume the queue.")
        # Otherwise the dispatcher begins it: when its queue's rate lets it, or when it is due.
        elif awaited.queue not in self._slots.resting and self._is_full(awaited.queue, in_thread):
            return await self._look_without_slot(wait, in_thread)
        return None

    def _is_full(self, queue: str, in_thread: bool) -> bool:
        return self._slots.room(queue, in_thread) <= 0

    async def _look_without_slot(self, wait: Wait, in_thread: bool) -> Line | None:
        """Begins the awaited task beside the limits, where a waiting body lends its slot."""
        line = (wait.awaited.queue, in_thread)
        if self._slots.queue_room(wait.awaited.queue) <= 0:
            self._report_full_queue(wait)
            return line
        waiting = [not it.definition.is_coroutine for it in self._waits.attempts]
        if self._slots.room_beside(in_thread, waiting.count(in_thread), len(waiting)) <= 0:
            return line  # bodies are at work
        held_by = self._state.id
        claimed = await self._claim(wait) if self._state.holding else None
        if claimed is not None:
            self._attempts.start(claimed, held_by)
        return None

    async def _claim(self, wait: Wait) -> Claimed | None:
        execution_id, ledger = wait.awaited.id, self._ledger
        dispatches = ledger.dispatches()
        if dispatches is None:  # rows in memory
            row = ledger.get(execution_id)
            if row is None or (row.run_after is not None and row.run_after > await ledger.now()):
                return None
            rate = self._slots.rates.get(wait.awaited.queue)
            return ledger.claim_here(execution_id, self._state.id, new_id(), rate)
        brought = await dispatches.claim(
            DeliveryClaim(
                ids=[execution_id],
                names=self._registry.names(),
                runtime_id=self._state.id,
                crashes=max(self._max_crashes, 1),
                suspects=not self._running.any_suspect,
                paused=self._slots.paused,
                rates=self._slots.rates,
            )
        )
        return brought.claimed[0] if brought.claimed else None

    # --- what cannot be helped -------------------------------------------------------------------

    def _report_full_queue(self, wait: Wait) -> None:
        queue, waiting = wait.awaited.queue, self._waits.attempts
        holders = [it for it in self._running.by_id.values() if it.snapshot.queue == queue]
        if all(it in waiting for it in holders):
            self._report(
                wait,
                f'all that the queue {queue!r} may run here at once ("concurrency":'
                f" {len(holders)}) wait too. Raise the queue's concurrency, or enqueue the task"
                " with .using(queue=...) in another queue.",
            )

    async def _report_unbegun(self, wait: Wait, seconds: float) -> None:
        if await self._is_overdue(wait, seconds):
            self._report(
                wait,
                f"no worker has begun it for {self._report_after:g} s. If all workers run tasks"
                " that wait, none is left to run it: add workers, give it a queue with workers of"
                " its own, or end the task and let the other one enqueue what comes next.",
            )

    async def _look_at_stray(self, wait: Wait, in_thread: bool, seconds: float) -> None:
        running = self._running.by_id.values()
        if self._runs_here:
            held = held_slots(self._slots, running, wait.awaited.queue, in_thread)
        else:
            held = held_by_worker(running)
        holders = [] if held is None else held.holders
        if holders != wait.holders:
            wait.holders, wait.since = holders, max(wait.since, seconds)
        if holders and held is not None and await self._is_overdue(wait, seconds):
            self._report(
                wait,
                f"{held.why}, and for {self._report_after:g} s none of these has ended: {held}."
                f" If one of them waits for that thread, neither can go on: {held.remedy}",
            )

    async def _is_overdue(self, wait: Wait, seconds: float) -> bool:
        """Returns whether the task has had no chance for so long that a wait for it is reported."""
        if wait.reported or seconds - wait.since < self._report_after:
            return False
        for found in await self._ledger.reread([wait.awaited.id]):
            due_in = 0.0
            if found.run_after is not None:
                due_in = (found.run_after - await self._ledger.now()).total_seconds()
            if due_in > 0:
                wait.since = seconds + due_in
                return False
            return found.started_at is None and not found.is_final
        return False

    @staticmethod
    def _report(wait: Wait, why: str) -> None:
        if not wait.reported:
            wait.reported = True
            awaited = wait.awaited
            logger.warning(
                "Deadlock? %s waits for task %s (%s), which can't begin: %s",
                wait, awaited.name, awaited.id, why,
            )  # fmt: skip
