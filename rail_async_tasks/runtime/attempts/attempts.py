"""Starts attempts in the slots of this process, and hands their outcomes on."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from uuid import UUID

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.hooks import asks_to_end
from rail_async_tasks.language import activate
from rail_async_tasks.ledger.records import Claimed, Outcome
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.announce import Announcer
from rail_async_tasks.runtime.attempts.around import find_around
from rail_async_tasks.runtime.attempts.attempt import Attempt
from rail_async_tasks.runtime.attempts.body_tasks import BodyTasks
from rail_async_tasks.runtime.attempts.options import policy_for
from rail_async_tasks.runtime.attempts.orm_threads import OrmThreads
from rail_async_tasks.runtime.attempts.outcomes import Interruption
from rail_async_tasks.runtime.attempts.progress_saver import ProgressSaver
from rail_async_tasks.runtime.attempts.running import Running
from rail_async_tasks.runtime.attempts.settlements import Settlements
from rail_async_tasks.runtime.attempts.span import enter
from rail_async_tasks.runtime.attempts.threads import DaemonThreads, threads_ended
from rail_async_tasks.runtime.attempts.waiters import Waiters
from rail_async_tasks.runtime.attempts.waits import waits_are_of
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.due import Due
from rail_async_tasks.runtime.outstanding import Outstanding
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.tracing import SafeTracer


class Attempts:
    """Runs claimed executions: each attempt is a task of the runtime's loop.

    Args:
        callback_hold: a failure callback is reserved for this process for so many seconds; None
            where there is none.
        tracer: opens the spans of attempts; None where tracing is off.
        on_slot_freed: is called with the id and the token of each attempt whose body has ended, or
            was given up; None where no worker of a broker counts slots.
    """

    def __init__(  # noqa: PLR0913 (collaborators)
        self,
        *,
        state: RuntimeState,
        settings: TaskSettings,
        registry: Registry,
        running: Running,
        slots: Slots,
        due: Due,
        announcer: Announcer,
        settlements: Settlements,
        progress: ProgressSaver,
        waiters: Waiters,
        outstanding: Outstanding,
        callback_hold: float | None = None,
        tracer: SafeTracer | None = None,
        on_slot_freed: Callable[[UUID, UUID], None] | None = None,
    ) -> None:
        self._state = state
        self._settings = settings
        self._registry = registry
        self._running = running
        self._slots = slots
        self._due = due
        self._announcer = announcer
        self._settlements = settlements
        self._progress = progress
        self._waiters = waiters
        self._outstanding = outstanding
        self._callback_hold = callback_hold
        self._tracer = tracer
        self._on_slot_freed = on_slot_freed
        self._around = find_around(settings)
        self._loop = asyncio.get_running_loop()
        self._threads = DaemonThreads("rail-tasks-def")
        self._orm_threads = OrmThreads(settings.max_workers)
        self._bodies = BodyTasks(self._loop, self._over)

    def start(self, claimed: Claimed, held_by: UUID) -> None:
        """Takes a slot for an execution that was claimed in the name of `held_by`, and runs it."""
        definition = self._registry.get(claimed.snapshot.name)
        assert definition is not None, "a claim names only tasks that are known here"
        self._slots.take(claimed.snapshot.queue, not definition.is_coroutine)
        self.begin(claimed, definition, held_by)

    def begin(self, claimed: Claimed, definition: TaskDefinition, held_by: UUID | None) -> None:
        """Runs an execution in a slot that was taken for it.

        The slot is freed when the attempt ends, or here if the attempt can't be made. An error
        after that is the attempt's outcome.
        """
        settings, state = self._settings, self._state
        try:
            attempt = Attempt(
                claimed,
                definition,
                policy_for(claimed.snapshot, definition, settings, self._callback_hold),
                loop=self._loop,
                threads=self._threads,
                progress_interval=settings.progress_interval_seconds,
                grace=settings.cancel_grace_seconds,
                on_progress=self._progressed,
                on_end=self._ended,
                state=state,
                around=self._around,
            )
        except BaseException:  # `upkeep.unknown` hands the row back
            self._free_slot(claimed.snapshot.queue, definition)
            raise
        if settings.slow_task_threshold_seconds is not None:
            attempt.watch(settings.slow_task_threshold_seconds, self._announcer.slow)
        self._running.add(attempt)
        try:
            self._announcer.started(claimed.snapshot)
            if state.draining or held_by != state.id or not state.holding:
                # The claim came during the drain or under a lost lease: hand the attempt back
                # before its first step.
                attempt.interrupt(Interruption.HAND_BACK)
                attempt.end_unstarted()
            else:
                self._bodies.start(attempt, self._context_of(attempt, claimed))
        except BaseException as error:
            self._not_begun(attempt, error)

    def _context_of(self, attempt: Attempt, claimed: Claimed) -> contextvars.Context:
        """Returns the context of an attempt that begins: a clean one, as the host's was."""
        context = contextvars.Context()
        if claimed.language is not None and self._settings.carry_language:
            attempt.speak(claimed.language)
            context.run(activate, claimed.language)
        if attempt.definition.is_coroutine:
            attempt.seat = self._orm_threads.least_busy().enter(attempt)
            context.run(attempt.seat.take)
        context.run(self._enter, attempt, claimed)
        return context

    def _enter(self, attempt: Attempt, claimed: Claimed) -> None:
        """Has the attempt's context, which is the current one, name the attempt."""
        waits_are_of(self._waiters, attempt)
        attempt.span = enter(self._tracer, claimed, attempt.definition)

    def _not_begun(self, attempt: Attempt, error: BaseException) -> None:
        """Ends an attempt whose task could not be made: a translation is broken, for example.

        As if its body had raised the error, so a retry waits and the error is shown. A row that is
        handed back at once, or left to `upkeep.unknown`, would fail in the same way for ever.
        """
        ends = asks_to_end(error)
        if ends:
            attempt.interrupt(Interruption.HAND_BACK)
        attempt.end_unbegun(error)
        self._over(attempt)
        if ends:
            raise error

    @property
    def bodies_running(self) -> bool:
        """Returns whether a body has neither ended nor been given up."""
        return self._bodies.running

    async def close(self, timeout: float) -> None:
        """Ends the threads and closes their connections.

        Args:
            timeout: seconds; threads whose bodies have not ended by then are left behind.
        """
        await threads_ended([self._threads, *self._orm_threads.close()], timeout)

    def _progressed(self, attempt: Attempt) -> None:
        self._announcer.progressed(attempt.snapshot)
        self._progress.keep(attempt)

    def _ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """The body is over: its slot is free at once, its outcome on the way to the ledger."""
        if attempt.given_up:
            self._slots.leaked += 1
        self._progress.forget(attempt.snapshot.id)
        self._waiters.body_ended(attempt)
        self._free_slot(attempt.snapshot.queue, attempt.definition)
        if self._on_slot_freed is not None:
            self._on_slot_freed(outcome.id, attempt.token)
        self._settlements.settle(attempt, outcome)

    def _free_slot(self, queue: str, definition: TaskDefinition) -> None:
        self._slots.release(queue, not definition.is_coroutine)
        self._due.slot_freed(queue)
        self._waiters.slot_freed()

    def _over(self, attempt: Attempt) -> None:
        """The attempt's task is done: nothing of its body runs on this loop any more."""
        if attempt.seat is not None:
            attempt.seat.leave()
        attempt.let_go()
        if attempt.given_up:
            self._slots.leaked -= 1
        self._outstanding.changed()
