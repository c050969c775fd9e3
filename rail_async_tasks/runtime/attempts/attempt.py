"""One attempt: runs the body under its claim, and returns its outcome.

A coroutine body is interrupted by its task's `cancel()`: at once, and again half-way through the
grace period. anyio's cancel scopes are not used: they cancel again at every step of the loop, and a
body that swallows the cancel would take the whole CPU. A `def` body can only be asked. A body that
has not ended after the grace period is given up: its row is settled without it, its slot is
replaced and counted as leaked, and its later writes are refused, as its token is no longer valid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import TaskCancelled
from rail_async_tasks.hooks import as_error, asks_to_end
from rail_async_tasks.ledger.records import Claimed, Outcome
from rail_async_tasks.logs import trace_id_of
from rail_async_tasks.runtime.attempts import outcomes
from rail_async_tasks.runtime.attempts.around import Factory
from rail_async_tasks.runtime.attempts.body import Body
from rail_async_tasks.runtime.attempts.context import TaskContext
from rail_async_tasks.runtime.attempts.orm_threads import Seat
from rail_async_tasks.runtime.attempts.outcomes import AttemptPolicy, Interruption, Transition
from rail_async_tasks.runtime.attempts.own_frames import cut_own_frames
from rail_async_tasks.runtime.attempts.progress import ProgressReporter
from rail_async_tasks.runtime.attempts.threads import DaemonThreads
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.tracing import SafeSpan
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status

logger = get_logger("rail_async_tasks.runtime")

# An execution that is handed back while its body still runs is due again after so many seconds.
LATE_HAND_BACK = 5.0


class Attempt:
    """Runs one claimed execution on the runtime's loop.

    `on_progress` is called with the snapshot after each progress event, `on_end` exactly once, with
    the outcome to settle: when the body has ended, or when it has been given up. `state` shows
    whether the runtime is ending.
    """

    __slots__ = (
        "__weakref__", "_cancellable", "_code", "_context", "_function", "_grace", "_interruption",
        "_loop", "_on_end", "_on_progress", "_on_slow", "_reporter", "_slow_after", "_started_at",
        "_state", "_task", "_timers", "_trace_id", "cause", "definition", "ended", "given_up",
        "policy", "refused", "seat", "seconds", "snapshot", "span", "suspect", "token",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 (collaborators)
        self,
        claimed: Claimed,
        definition: TaskDefinition,
        policy: AttemptPolicy,
        *,
        loop: asyncio.AbstractEventLoop,
        threads: DaemonThreads,
        progress_interval: float,
        grace: float,
        on_progress: Callable[[Attempt], None],
        on_end: Callable[[Attempt, Outcome], None],
        state: RuntimeState,
        around: Factory | None = None,
    ) -> None:
        self.snapshot: TaskSnapshot = claimed.snapshot
        self.token = claimed.token
        self.suspect = claimed.suspect
        self.definition = definition
        self.policy = policy
        self.ended = False
        self.given_up = False
        self.refused = False  # the database could not store its first outcome
        self.seconds = 0.0  # how long its body took, once that has ended
        self.cause: BaseException | None = None  # of its failure, until that is logged
        self.seat: Seat | None = None  # where its ORM calls run
        self.span: SafeSpan | None = None  # where tracing is on, from its first step
        self._trace_id = trace_id_of(claimed.traceparent)
        self._loop = loop
        self._grace = grace
        self._on_progress = on_progress
        self._on_end = on_end
        self._state = state
        self._cancellable = definition.is_coroutine
        self._started_at: float | None = None
        self._slow_after: float | None = None
        self._task: asyncio.Task[Any] | None = None
        self._interruption: Interruption | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._reporter: ProgressReporter | None = None
        self._context: TaskContext | None = None
        if definition.takes_info:
            if definition.options.track_progress:
                self._reporter = ProgressReporter(loop, progress_interval, self._progressed)
            self._context = TaskContext(
                id=self.snapshot.id,
                name=self.snapshot.name,
                attempt=self.snapshot.attempts,
                queue=self.snapshot.queue,
                report=None if self._reporter is None else self._reporter.report,
            )
        self._code = definition.function.__code__
        self._function: Body | None = Body(
            claimed, definition, task=self._context, threads=threads, around=around, who=self
        )

    @property
    def trace_id(self) -> str | None:
        """The trace that the attempt belongs to: 32 hex digits."""
        return self._trace_id if self.span is None else self.span.trace_id

    def __str__(self) -> str:
        return f"Task {self.snapshot.name} ({self.snapshot.id})"

    def speak(self, language: str) -> None:
        """Has a `def` body run in this language: its thread does not see the task's."""
        assert self._function is not None
        self._function.language = language

    def watch(self, slow_after: float, on_slow: Callable[[TaskSnapshot, float], None]) -> None:
        """Has `on_slow` called, once, when the body takes longer than so many seconds."""
        self._slow_after = slow_after
        self._on_slow = on_slow

    # --- running it ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs the body to its end. Never raises, whatever the body does."""
        self._task = asyncio.current_task()
        if self._interruption is not None:
            self.end_unstarted()
            return
        self._started_at = self._loop.time()
        if self._slow_after is not None:
            self._timers.append(self._loop.call_later(self._slow_after, self._report_slow))
        if self.policy.timeout is not None:
            self._timers.append(
                self._loop.call_later(self.policy.timeout, self.interrupt, Interruption.TIMEOUT)
            )
        try:
            transition = await self._body()
        except BaseException as error:  # code of the project, as a result or an error is read
            if asks_to_end(error):
                raise
            transition = outcomes.refused(error)
        if self.given_up:
            self._end_late()
        else:
            self._end(transition)

    async def _body(self) -> Transition:
        assert self._function is not None
        try:
            value = await self._function.run(self.seat, self._while_cancellable)
        except (asyncio.CancelledError, TaskCancelled) as error:
            cut_own_frames(error, self._code)
            return self._cancelled(error)
        except BaseException as error:
            cut_own_frames(error, self._code)
            if self._interruption is not None:
                # An error that the body raised after it was interrupted: the interruption counts.
                return outcomes.interrupted(self._interruption, self.policy, error)
            return outcomes.raised(error, self.policy)
        return outcomes.returned(value, self.policy)

    def _cancelled(self, error: BaseException) -> Transition:
        return outcomes.stopped(error, self._interruption, self._state.is_ending, self.policy)

    @contextmanager
    def _while_cancellable(self) -> Iterator[None]:
        """Has an interruption cancel the task of a `def` body, which nothing of it waits for."""
        if self._interruption is not None:
            raise asyncio.CancelledError
        self._cancellable = True
        try:
            yield
        finally:
            self._cancellable = False

    def let_go(self) -> None:
        """Drops what refers to the attempt in turn: its task is done, its body runs no more.

        A ring would be freed by the garbage collector alone, which takes longer than the task.
        """
        self._task = self._function = self._context = self._reporter = self.seat = None

    def runs_in(self, task: asyncio.Task[Any]) -> bool:
        return self._task is task

    # --- ending it -------------------------------------------------------------------------------

    def interrupt(self, why: Interruption, grace: float | None = None) -> None:
        """Asks the body to end. The first reason stays; a body that has ended is left alone.

        `grace` is how long it may take, in seconds, in place of the setting's time.
        """
        if self.ended or self._interruption is not None:
            return
        self._interruption = why
        if grace is not None:
            self._grace = grace
        if self._context is not None:
            self._context.request_end()
        if self._cancellable:
            self._cancel_body()
            self._timers.append(self._loop.call_later(self._grace / 2, self._cancel_body))
        self._timers.append(self._loop.call_later(self._grace, self._give_up))

    def end_unstarted(self) -> None:
        """Ends an attempt that was interrupted before its body's first step."""
        assert self._interruption is not None
        self._end(outcomes.interrupted(self._interruption, self.policy))

    def end_cancelled(self) -> None:
        """Ends an attempt whose task was cancelled, from elsewhere, before its first step."""
        self._end(self._cancelled(asyncio.CancelledError()))

    def _cancel_body(self) -> None:
        if self._task is not None and self._cancellable and not self.ended:
            self._task.cancel()

    def _give_up(self) -> None:
        if self.ended:
            return
        assert self._interruption is not None
        logger.error(
            "Task %s (%s) has not ended %g s after it was asked to (%s); it is given up, and its"
            " slot replaced. Its body is still running.",
            self.snapshot.name, self.snapshot.id, self._grace, self._interruption.name.lower(),
        )  # fmt: skip
        self.given_up = True
        transition = outcomes.interrupted(self._interruption, self.policy)
        if transition.status is Status.RETRYING and self._interruption is Interruption.HAND_BACK:
            # This body still runs. The delay lets it end, or end with a process that shuts down,
            # before the next attempt begins. After a lost lease the two may overlap.
            transition = msgspec.structs.replace(transition, delay=LATE_HAND_BACK)
        self._end(transition)

    def _end(self, transition: Transition) -> None:
        self.ended = True
        for timer in self._timers:
            timer.cancel()
        if self._started_at is not None:
            self.seconds = self._loop.time() - self._started_at
            if self._slow_after is not None and self.seconds > self._slow_after:
                self._report_slow()  # it held the loop, whose timer had no turn
        if self._reporter is not None:
            self._reporter.close()
        if self.span is not None:
            self.span.body_ended()
        self._on_end(self, self._outcome(transition))

    def end_unbegun(self, error: BaseException) -> None:
        """Ends an attempt that an error has kept from its first step, as one of the body would."""
        if self._interruption is not None and not self.ended:
            self.end_unstarted()
        elif not self.ended:
            self._end(outcomes.raised(as_error(error, "Its start"), self.policy))

    def break_off(self, error: BaseException) -> None:
        """Settles an attempt that has broken in a way it should not have."""
        if not self.ended:
            self._end(outcomes.refused(error))

    def _end_late(self) -> None:
        logger.warning("Task %s (%s), given up, has ended.", self.snapshot.name, self.snapshot.id)

    def _report_slow(self) -> None:
        assert self._started_at is not None
        self._slow_after = None
        self._on_slow(self.snapshot, self._loop.time() - self._started_at)

    def _outcome(self, transition: Transition) -> Outcome:
        self.cause = transition.cause
        snapshot = self.snapshot
        return outcomes.as_outcome(
            transition, id=snapshot.id, token=self.token, policy=self.policy,
            progress=snapshot.progress, progress_message=snapshot.progress_message,
        )  # fmt: skip

    def unstorable(self, error: BaseException) -> Outcome:
        """The outcome in place of one that the database refused to store."""
        return self._outcome(outcomes.refused(error))

    # --- progress --------------------------------------------------------------------------------

    def _progressed(self, percent: int, message: str | None) -> None:
        self.snapshot = msgspec.structs.replace(
            self.snapshot, progress=percent, progress_message=message, step=self.snapshot.step + 1
        )
        self._on_progress(self)
