"""Stores the outcomes of attempts, and announces what became of their executions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from uuid import UUID

from rail_async_tasks.ledger import port
from rail_async_tasks.ledger.errors import is_of_row
from rail_async_tasks.ledger.records import Outcome, RowLocked, Settled
from rail_async_tasks.ledger.snapshots import as_settled
from rail_async_tasks.ledger.upkeep import Writers
from rail_async_tasks.runtime.announce import Announcer
from rail_async_tasks.runtime.attempts.attempt import Attempt
from rail_async_tasks.runtime.attempts.running import Running
from rail_async_tasks.runtime.attempts.span import dropped, ended
from rail_async_tasks.runtime.attempts.timings import ATTEMPT_TIMINGS, AttemptTimings
from rail_async_tasks.runtime.due import Due
from rail_async_tasks.runtime.outstanding import Outstanding
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.states import Status

logger = get_logger("rail_async_tasks.runtime")


class Settlements:
    """Hands outcomes to the ledger, again where that fails. On the runtime's loop.

    Args:
        writers: the ledger's threads; None where rows are in memory.
        on_stored: is called with the id and the token of each attempt whose outcome is stored, or
            never will be; None where no broker waits for that.
    """

    def __init__(
        self,
        *,
        state: RuntimeState,
        ledger: port.Attempts,
        writers: Writers | None,
        running: Running,
        due: Due,
        announcer: Announcer,
        outstanding: Outstanding,
        on_stored: Callable[[UUID, UUID], None] | None = None,
        timings: AttemptTimings = ATTEMPT_TIMINGS,
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._writers = writers
        self._running = running
        self._due = due
        self._announcer = announcer
        self._outstanding = outstanding
        self._on_stored = on_stored
        self._timings = timings
        self._loop = asyncio.get_running_loop()
        self._abandons_locked = False

    def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """Hands an outcome to the ledger; the attempt counts as running until it is stored."""
        if self._state.drops_outcomes:  # the rows are recovered by others
            dropped(attempt.span)
            return
        self._outstanding.outcomes += 1
        self._ledger.settle(outcome, partial(self._answered, attempt, outcome))

    def settle_unknown(
        self, outcome: Outcome, done: Callable[[Settled | BaseException | None], None]
    ) -> None:
        """Hands over the outcome of an attempt that nothing here knows; `done` gets the answer."""

        def answered(settled: Settled | BaseException | None) -> None:
            self._outstanding.outcomes -= 1
            self._outstanding.changed()
            done(settled)

        self._outstanding.outcomes += 1
        self._ledger.settle(outcome, answered)

    def abandon_locked(self) -> None:
        """Waits no longer for rows that other transactions have locked: the process ends."""
        if not self._abandons_locked:
            self._abandons_locked = True
            if self._writers is not None:
                self._writers.abandon_locked()

    def _answered(
        self, attempt: Attempt, outcome: Outcome, settled: Settled | BaseException | None
    ) -> None:
        self._outstanding.outcomes -= 1
        if isinstance(settled, BaseException):
            if isinstance(settled, RowLocked) and self._abandons_locked:
                self._abandoned(attempt)
                return
            if not is_of_row(settled):
                self._settle_later(attempt, outcome, settled)
                return
            if not attempt.refused:
                logger.error("The outcome of task %s can't be stored: %s", outcome.id, settled)
                attempt.refused = True
                self.settle(attempt, attempt.unstorable(settled))
                return
        self._running.remove(attempt)
        if self._on_stored is not None:
            self._on_stored(outcome.id, attempt.token)
        self._outstanding.changed()
        if isinstance(settled, BaseException):
            logger.error("Nothing can be stored of task %s: %s", outcome.id, settled)
            self._dropped(attempt)
        elif settled is None:
            logger.warning("Task %s is no longer held here; its outcome is dropped", outcome.id)
            self._dropped(attempt)
        else:
            self._stored(attempt, outcome, settled)

    def _stored(self, attempt: Attempt, outcome: Outcome, settled: Settled) -> None:
        after = as_settled(attempt.snapshot, outcome, settled)
        # The attempt is in the traceback's frames, and so in a ring with it.
        cause, attempt.cause = attempt.cause, None
        ended(attempt.span, after, cause)
        self._announcer.settled(
            after, attempt.seconds, outcome.traceback, cause, trace_id=attempt.trace_id
        )
        if settled.status is Status.RETRYING and not self._state.draining:
            if settled.run_after is None:
                self._due.expect(after.name, after.queue)
            else:
                self._due.due_in(outcome.delay or 0)

    def _settle_later(self, attempt: Attempt, outcome: Outcome, error: BaseException) -> None:
        """Offers the outcome again in a while: nothing is wrong with it, but with the database."""
        logger.error("The outcome of task %s can't be stored yet: %s", outcome.id, error)
        self._outstanding.outcomes += 1
        self._loop.call_later(self._timings.store_again_after, self._settle_again, attempt, outcome)

    def _settle_again(self, attempt: Attempt, outcome: Outcome) -> None:
        self._outstanding.outcomes -= 1
        self.settle(attempt, outcome)

    def _abandoned(self, attempt: Attempt) -> None:
        logger.warning(
            "The outcome of task %s (%s) is not stored: another transaction has locked its row at"
            " the end of this process. The task is recovered, and its body runs again.",
            attempt.snapshot.name, attempt.snapshot.id,
        )  # fmt: skip
        self._dropped(attempt)
        self._outstanding.changed()

    def _dropped(self, attempt: Attempt) -> None:
        dropped(attempt.span)
        self._announcer.dropped(attempt.snapshot, attempt.seconds)
