"""Keeps bodies that wait for other tasks from blocking those tasks.

While a body waits it keeps its slot. If waiting bodies keep all slots, the tasks that they wait for
can't begin. Such a task is run beside the limits of the process, one for each body that waits; a
queue's own `concurrency` is a promise about its tasks and is not exceeded.

A stray wait lends no slot: it may not be a body's. It is reported, if no body that holds a slot of
the awaited task has ended for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Final, Protocol

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
from rail_async_tasks.runtime.attempts.waiters import Group, Look, Waiter, Waiters
from rail_async_tasks.runtime.attempts.waits import Wait
from rail_async_tasks.runtime.claims.plan import Line
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")

# A look tries to claim so many tasks at most: some have just ended, or are to be retried later.
TRIES: Final = 20
# So many rows are read to see whether workers have begun any of the tasks that a body waits for.
READ: Final = 100


class WaitLedger(Reads, LoopReads, InlineAttempts, Clock, Protocol):
    """The ports of the ledger that the deadlock breaker uses."""

    def dispatches(self) -> Dispatches | None:
        """See `port.Ledger`."""
        ...


class DeadlockBreaker:
    """Looks at each waiter: starts the awaited task beside the limits, or reports a deadlock.

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
        waiters: Waiters,
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
        self._waiters = waiters
        self._time = asyncio.get_running_loop().time
        self._max_crashes = max_crashes
        self._runs_here = runs_here
        self._report_after = timings.wait_report_after
        # Two claims at once would be made for one slot.
        self._one_claim = asyncio.Lock()

    async def look(self, waiter: Waiter) -> Look:
        """Does what can be done for a body that waits, or a stray thread."""
        if self._state.draining or not waiter.groups:
            return Look()
        if waiter.attempt is None:
            await self._look_at_stray(waiter)
        elif self._runs_here:
            async with self._one_claim:
                return await self._look_at_body(waiter)
        else:
            await self._report_unbegun(waiter)
        return Look()

    async def _look_at_body(self, waiter: Waiter) -> Look:
        """Begins one of its tasks beside the limits, where a waiting body lends its slot."""
        lacks: set[Line] = set()
        for group in list(waiter.groups):
            in_thread = self._lacks_slot(waiter, group)
            if in_thread is None:
                continue
            line = (group[0], in_thread)
            if self._slots.queue_room(group[0]) <= 0:
                self._report_full_queue(waiter, group)
                lacks.add(line)
            elif self._room_beside(in_thread) <= 0:  # bodies are at work
                lacks.add(line)
            elif self._state.holding and await self._start_one(waiter, group):
                return Look(frozenset({*lacks, line}), started=True)
        return Look(frozenset(lacks))

    def _lacks_slot(self, waiter: Waiter, group: Group) -> bool | None:
        """Returns which kind of slot the tasks of the group lack; None where that is not it."""
        queue, name = group
        definition = self._registry.get(name)
        if definition is None or next(self._unbegun(waiter, group), None) is None:
            return None
        if queue in self._slots.paused:
            self._report(waiter, group, f"the queue {queue!r} is paused. Resume the queue.")
            return None
        in_thread = not definition.is_coroutine
        # The dispatcher begins it when its queue's rate lets it, or when it is due.
        if queue in self._slots.resting or self._slots.room(queue, in_thread) > 0:
            return None
        return in_thread

    def _unbegun(self, waiter: Waiter, group: Group) -> Iterator[Wait]:
        running = self._running.by_id
        return (it for it in waiter.groups.get(group, ()) if it.awaited.id not in running)

    def _room_beside(self, in_thread: bool) -> int:
        waiting = self._waiters.bodies(in_thread)
        in_all = waiting + self._waiters.bodies(not in_thread)
        return self._slots.room_beside(in_thread, waiting, in_all)

    async def _start_one(self, waiter: Waiter, group: Group) -> bool:
        """Starts the first task of the group that can be claimed."""
        for wait in list(islice(self._unbegun(waiter, group), TRIES)):
            waiter.put_last(wait)
            held_by = self._state.id
            claimed = await self._claim(wait)
            if claimed is not None:
                self._attempts.start(claimed, held_by)
                return True
        return False

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

    def _report_full_queue(self, waiter: Waiter, group: Group) -> None:
        if group in waiter.reported:
            return
        queue, waiting = group[0], self._waiters.attempts
        holders = [it for it in self._running.by_id.values() if it.snapshot.queue == queue]
        if all(it in waiting for it in holders):
            self._report(
                waiter,
                group,
                f'all that the queue {queue!r} may run here at once ("concurrency":'
                f" {len(holders)}) wait too. Raise the queue's concurrency, or enqueue the task"
                " with .using(queue=...) in another queue.",
            )

    async def _report_unbegun(self, waiter: Waiter) -> None:
        group = next(iter(waiter.groups))
        if await self._is_overdue(waiter):
            self._report(
                waiter,
                group,
                f"no worker has begun it for {self._report_after:g} s. If all workers run tasks"
                " that wait, none is left to run it: add workers, give it a queue with workers of"
                " its own, or end the task and let the other one enqueue what comes next.",
            )

    async def _look_at_stray(self, waiter: Waiter) -> None:
        (group,) = waiter.groups
        definition = self._registry.get(group[1])
        running = self._running.by_id.values()
        if definition is None or next(self._unbegun(waiter, group), None) is None:
            return
        if self._runs_here:
            held = held_slots(self._slots, running, group[0], not definition.is_coroutine)
        else:
            held = held_by_worker(running)
        holders = [] if held is None else held.holders
        if holders != waiter.holders:
            waiter.holders, waiter.since = holders, max(waiter.since, self._time())
        if holders and held is not None and await self._is_overdue(waiter):
            self._report(
                waiter,
                group,
                f"{held.why}, and for {self._report_after:g} s none of these has ended: {held}."
                f" If one of them waits for that thread, neither can go on: {held.remedy}",
            )

    async def _is_overdue(self, waiter: Waiter) -> bool:
        """Returns whether its tasks have had no chance for so long that it is reported."""
        now = self._time()
        if waiter.reported or now - waiter.since < self._report_after:
            return False
        # Tasks begin in the order in which they were created, or nearly so.
        found = await self._ledger.reread([it.id for it in islice(waiter.awaited, READ)])
        if any(it.started_at is not None or it.is_final for it in found):
            waiter.since = now
        elif found and all(it.run_after is not None for it in found):
            first = min(it.run_after for it in found if it.run_after is not None)
            waiter.since = now + (first - await self._ledger.now()).total_seconds()
        return bool(found) and now - waiter.since >= self._report_after

    @staticmethod
    def _report(waiter: Waiter, group: Group, why: str) -> None:
        if group not in waiter.reported and group in waiter.groups:
            waiter.reported.add(group)
            waits = waiter.groups[group]
            awaited = next(iter(waits)).awaited
            more = f" and {len(waits) - 1:,} more" if len(waits) > 1 else ""
            logger.warning(
                "Deadlock? %s waits for task %s (%s)%s, which can't begin: %s",
                waiter, awaited.name, awaited.id, more, why,
            )  # fmt: skip
