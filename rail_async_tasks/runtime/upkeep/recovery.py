"""Recovery: frees executions that have lost their process, and fails those of unknown tasks."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from rail_async_tasks.ledger.records import Held, Outcome, Recovery, Settled
from rail_async_tasks.ledger.upkeep import Recoveries
from rail_async_tasks.runtime.announce import Announcer
from rail_async_tasks.runtime.attempts import outcomes
from rail_async_tasks.runtime.due import Due
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import counted, noun_for

logger = get_logger("rail_async_tasks.runtime")

# Executions that are freed, or failed, in one statement.
PAGE = 200


class Settle(Protocol):
    """Stores an outcome, as `Ledger.settle` does. The runtime's end waits for the answer."""

    def __call__(
        self, outcome: Outcome, done: Callable[[Settled | BaseException | None], None]
    ) -> None: ...


class Recoverer:
    """Runs on the runtime's loop.

    Args:
        settle: stores the outcome of an attempt that is unknown here.
        max_crashes: executions that were lost with so many processes fail.
        ttl: for so long (seconds) executions that end are kept; None: for good.
        callback_hold: how long (seconds) a failure callback is reserved for this process; None
            where there is none.
        page: executions of one statement.
    """

    def __init__(
        self,
        *,
        recoveries: Recoveries,
        state: RuntimeState,
        due: Due,
        announcer: Announcer,
        settle: Settle,
        max_crashes: int,
        ttl: float | None,
        callback_hold: float | None,
        page: int = PAGE,
    ) -> None:
        self._recoveries = recoveries
        self._state = state
        self._due = due
        self._announcer = announcer
        self._settle = settle
        self._max_crashes = max_crashes
        self._ttl = ttl
        self._callback_hold = callback_hold
        self._page = page
        self._recovering: dict[UUID, asyncio.Task[None]] = {}  # by dead holder
        self.recovered = 0  # executions in all

    def recover(self, holders: frozenset[UUID]) -> None:
        """Begins to free what these dead runtimes held. A holder that is being freed is skipped."""
        loop = asyncio.get_running_loop()
        for holder in holders - self._recovering.keys() - {self._state.id}:
            if not self._state.draining:
                task = loop.create_task(self._recover(holder), context=contextvars.Context())
                self._recovering[holder] = task

    def stop(self) -> None:
        """Leaves the rest to other processes."""
        for task in self._recovering.values():
            task.cancel()

    def disown(self, held: Held) -> None:
        """Hands a running row back that this runtime holds and does not know."""
        logger.error("Task %s is held here and unknown; it is handed back", held.id)
        outcome = outcomes.lost(
            held.id, held.token,
            rerun_on_crash=held.rerun_on_crash, ttl=self._ttl, callback_hold=self._callback_hold,
        )  # fmt: skip
        self._settle(outcome, self._disowned)

    def _disowned(self, settled: Settled | BaseException | None) -> None:
        self._due.look_everywhere()

    async def fail_unknown(self, name: str) -> None:
        """Fails executions that wait under a name that no process knows."""
        while failed := await self._recoveries.fail_unknown(
            name, self._ttl, self._callback_hold, self._page
        ):
            count = counted(len(failed), "task")
            logger.error("%s failed: no process knows the name %s", count, name)
            for snapshot in failed:
                self._announcer.changed(snapshot)

    async def _recover(self, holder: UUID) -> None:
        """Frees what a dead runtime held, page by page."""
        recovery = Recovery(holder, self._max_crashes, self._ttl, self._callback_hold)
        count = 0
        try:
            while freed := await self._recoveries.recover(recovery, self._page):
                count += len(freed)
                for snapshot in freed:
                    self._announcer.changed(snapshot)
                    if not snapshot.is_final:
                        self._due.expect(snapshot.name, snapshot.queue)
        except Exception as error:  # the lease reports the holder again
            logger.warning("The tasks of %s could not be recovered yet: %s", holder, error)
        finally:
            self._recovering.pop(holder, None)
        if count:
            self.recovered += count
            logger.warning(
                "%s of %s, which is gone, %s recovered",
                counted(count, "task"), holder, noun_for(count, "was", "were"),
            )  # fmt: skip
