"""The end of a runtime: running bodies are handed back, and what was accepted is stored."""

from __future__ import annotations

import asyncio

import msgspec

from rail_async_tasks.runtime.attempts.attempts import Attempts
from rail_async_tasks.runtime.attempts.outcomes import Interruption
from rail_async_tasks.runtime.attempts.running import Running
from rail_async_tasks.runtime.attempts.settlements import Settlements
from rail_async_tasks.runtime.creations import Creations
from rail_async_tasks.runtime.outstanding import Outstanding
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import counted

logger = get_logger("rail_async_tasks.runtime")


class EndTimings(msgspec.Struct, frozen=True, kw_only=True):
    """All in seconds."""

    # A body gets so long to end after it was asked to.
    drain_grace: float = 1.0
    # The end is held up so long for a database that does not answer.
    flush_timeout: float = 5.0
    # The end waits so long for a row that another transaction has locked.
    locked_outcome_timeout: float = 1.0
    # Failure callbacks that are being made get so long; other processes make the rest.
    callback_timeout: float = 1.0
    # Threads and their connections get so long to end; those of bodies that go on are left.
    threads_timeout: float = 0.5
    # The end waits so long for a claim.
    catch_up_timeout: float = 2.0
    # Callers that have waited too long are answered this often.
    answer_every: float = 1.0


END_TIMINGS = EndTimings()


class Ending:
    """Ends what runs in good order. On the runtime's loop.

    Args:
        drain_seconds: running bodies get so long to end by themselves.
        cancel_grace: a body that was asked to end gets so long, in seconds; less at the end.
    """

    def __init__(
        self,
        *,
        state: RuntimeState,
        running: Running,
        attempts: Attempts,
        creations: Creations,
        settlements: Settlements,
        outstanding: Outstanding,
        drain_seconds: float,
        cancel_grace: float,
        timings: EndTimings = END_TIMINGS,
    ) -> None:
        self._state = state
        self._running = running
        self._attempts = attempts
        self._creations = creations
        self._settlements = settlements
        self._outstanding = outstanding
        self._drain_seconds = drain_seconds
        self._grace = min(cancel_grace, timings.drain_grace)
        self._timings = timings
        self._loop = asyncio.get_running_loop()
        self._hurried = False

    async def hand_back(self) -> None:
        """Returns when no body runs: the last ones are asked to end after `drain_seconds`."""
        if self._running.by_id:
            logger.info("Draining: %s still running", counted(len(self._running.by_id), "task"))
        await self._until_idle(0 if self._hurried else self._drain_seconds)
        self._interrupt_all()
        # A body that ignores it is given up, and its row settled: the process must end in time.
        await self._until_idle(self._grace + 0.5)

    def hurry(self) -> None:
        """Asks running bodies to end at once, now or as soon as the drain begins."""
        self._hurried = True
        if self._state.draining:
            self._interrupt_all()

    async def flush(self) -> None:
        """Returns when bodies have ended and the ledger has answered what was submitted to it.

        After a fault it may be a writer that is gone: what cannot be stored in time is left, and
        recovered by others when the lease has lapsed.
        """
        deadline = self._loop.time() + self._timings.flush_timeout
        locked_deadline = self._loop.time() + self._timings.locked_outcome_timeout
        while self._is_unfinished:
            if self._loop.time() > locked_deadline:
                self._settlements.abandon_locked()
            if self._state.fault is not None and self._loop.time() > deadline:
                lost = counted(self._outstanding.outcomes, "outcome")
                logger.error("%s could not be stored", lost)
                self._state.abandoned = True
                return
            await self._outstanding.wait(self._timings.answer_every)
            # The service that does so while the runtime lives has stopped.
            self._creations.answer_overdue()

    @property
    def _is_unfinished(self) -> bool:
        if self._outstanding.creations or self._outstanding.outcomes:
            return True
        return self._attempts.bodies_running and not self._state.abandoned

    def _interrupt_all(self) -> None:
        self._running.interrupt_all(Interruption.HAND_BACK, self._grace)

    async def _until_idle(self, seconds: float) -> None:
        deadline = self._loop.time() + seconds
        while self._running.by_id and (left := deadline - self._loop.time()) > 0:
            await self._outstanding.wait(left)
