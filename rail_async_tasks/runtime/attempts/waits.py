"""Bodies that wait for other tasks: what they wait for must not wait for them.

While a body waits it keeps its slot. If all slots are kept so, nothing that the bodies wait for can
begin. Such a task is run beside the limits of the process, one for each body that waits; a queue's
own `concurrency` is a promise about its tasks and is not exceeded.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import UUID

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import Claimed, DeliveryClaim
from rail_async_tasks.runtime.attempts.lanes import keep_thread_while_waiting
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

if TYPE_CHECKING:
    from rail_async_tasks.runtime.attempts.attempt import Attempt
    from rail_async_tasks.runtime.runtime import Runtime

logger = get_logger("rail_async_tasks.runtime")

# Seconds until the first look at a task that a body waits for, and between the looks after that.
FIRST_LOOK = 0.05
NEXT_LOOK = 1.0
# Seconds after which a wait for a task that other processes run, and none has begun, is reported.
REPORT_AFTER = 5.0

_waits: contextvars.ContextVar[tuple[Waits, Attempt] | None] = contextvars.ContextVar(
    "rail_waits", default=None
)


@contextmanager
def waiting_for(awaited: TaskSnapshot) -> Iterator[None]:
    """Around a wait for a task, in whatever thread; means something in a body only."""
    found = _waits.get()
    if found is None or found[1].ended:
        yield
        return
    keep_thread_while_waiting()
    waits, attempt = found
    wait = Wait(attempt, awaited)
    waits.call_soon(waits.begin, wait)
    try:
        yield
    finally:
        waits.call_soon(waits.end, wait)


class Wait:
    """One body that waits for one task."""

    def __init__(self, attempt: Attempt, awaited: TaskSnapshot) -> None:
        self.attempt = attempt
        self.awaited = awaited
        self.timer: asyncio.TimerHandle | None = None
        self.reported = False


class Waits:
    """The waits of one runtime's bodies. On its loop, but for `call_soon`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waits: set[Wait] = set()
        self._looks: set[asyncio.Task[None]] = set()

    def enter(self, attempt: Attempt) -> None:
        """Makes waits in the current context those of this attempt."""
        _waits.set((self, attempt))

    def call_soon(self, call: object, wait: Wait) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._runtime.loop.call_soon_threadsafe(call, wait)  # type: ignore[arg-type]

    def begin(self, wait: Wait) -> None:
        self._waits.add(wait)
        self._look_in(FIRST_LOOK, wait, 0.0)

    def end(self, wait: Wait) -> None:
        self._waits.discard(wait)
        if wait.timer is not None:
            wait.timer.cancel()

    async def close(self, seconds: float) -> None:
        """Ends all waits; returns when no look is under way, after so many seconds in any case."""
        for wait in list(self._waits):
            self.end(wait)
        if self._looks:
            await asyncio.wait(self._looks, timeout=seconds)

    def _look_in(self, seconds: float, wait: Wait, since: float) -> None:
        if wait in self._waits and not wait.attempt.ended and not self._runtime.draining:
            loop = self._runtime.loop
            wait.timer = loop.call_later(seconds, self._begin_look, wait, since + seconds)

    def _begin_look(self, wait: Wait, seconds: float) -> None:
        # A clean context: an attempt that a look begins must not inherit that of this timer.
        look = self._runtime.loop.create_task(
            self._look_safely(wait, seconds), name="rail-tasks-wait", context=contextvars.Context()
        )
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _look_safely(self, wait: Wait, seconds: float) -> None:
        try:
            await self._look(wait, seconds)
        except Exception as error:
            logger.warning("A look at what %s waits for failed: %s", wait.attempt, error)
        self._look_in(NEXT_LOOK, wait, seconds)

    async def _look(self, wait: Wait, seconds: float) -> None:
        runtime, awaited = self._runtime, wait.awaited
        definition = runtime.registry.get(awaited.name)
        if awaited.id in runtime.attempts or definition is None:
            return
        if runtime.deliveries is not None:
            if seconds >= REPORT_AFTER:
                await self._report_unbegun(wait)
            return
        in_thread = not definition.is_coroutine
        if runtime.slots.room(awaited.queue, in_thread) > 0:
            return  # the dispatcher begins it when it is due
        if runtime.slots.queue_room(awaited.queue) <= 0:
            self._report_full_queue(wait)
            return
        waiting = [it.definition.is_coroutine for it in {it.attempt for it in self._waits}]
        same_kind = waiting.count(definition.is_coroutine)
        if runtime.slots.room_beside(in_thread, same_kind, len(waiting)) <= 0:
            return  # bodies are at work: one of them ends, and frees its slot
        held_by = runtime.id
        claimed = await self._claim(awaited.id) if runtime.holding else None
        if claimed is not None:
            runtime.start_claimed(claimed, held_by)

    async def _claim(self, execution_id: UUID) -> Claimed | None:
        runtime, ledger = self._runtime, self._runtime.ledger
        dispatches = ledger.dispatches()
        if dispatches is None:  # rows in memory
            row = ledger.get(execution_id)
            if row is None or (row.run_after is not None and row.run_after > await ledger.now()):
                return None
            return ledger.claim_here(execution_id, runtime.id, new_id())
        brought = await dispatches.claim(
            DeliveryClaim(
                ids=[execution_id],
                names=runtime.registry.names(),
                runtime_id=runtime.id,
                crashes=max(runtime.settings.max_crashes, 1),
                suspects=not runtime.suspects_running,
            )
        )
        return brought.claimed[0] if brought.claimed else None

    # --- what cannot be helped --------------------------------------------------------------------

    def _report_full_queue(self, wait: Wait) -> None:
        queue = wait.awaited.queue
        waiting = {it.attempt for it in self._waits}
        held = self._runtime.attempts.values()
        holders = [it for it in held if it.snapshot.queue == queue]
        if all(it in waiting for it in holders):
            self._report(
                wait,
                f'all that the queue {queue!r} may run here at once ("concurrency":'
                f" {len(holders)}) wait too. Raise the queue's concurrency, or enqueue the task"
                " with .using(queue=...) in another queue.",
            )

    async def _report_unbegun(self, wait: Wait) -> None:
        found = await self._runtime.ledger.reread([wait.awaited.id])
        if any(it.started_at is None and not it.is_final for it in found):
            self._report(
                wait,
                f"no worker has begun it for {REPORT_AFTER:g} s. If all workers run tasks that"
                " wait, none is left to run it: add workers, give it a queue with workers of its"
                " own, or end the task and let the other one enqueue what comes next.",
            )

    @staticmethod
    def _report(wait: Wait, why: str) -> None:
        if not wait.reported:
            wait.reported = True
            awaited = wait.awaited
            logger.warning(
                "Deadlock? %s waits for task %s (%s), which can't begin: %s",
                wait.attempt, awaited.name, awaited.id, why,
            )  # fmt: skip
