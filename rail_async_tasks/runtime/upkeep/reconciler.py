"""The reconciler: re-reads the ledger for changes that a lost message would have announced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import msgspec

from rail_async_tasks.runtime.upkeep.cancels import PAUSE_SECONDS
from rail_async_tasks.runtime.upkeep.steps import Step
from rail_async_tasks.runtime.upkeep.watched import OVERLAP_SECONDS

# Seconds between two rounds. Each round reads the cancels that other processes have asked for, so
# one whose announcement was lost is found after this time and the round's own duration.
INTERVAL_SECONDS = 1.0


class ReconcilerTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds between two rounds, and in every how many rounds each step is taken."""

    interval: float = INTERVAL_SECONDS
    cancel_pause: float = PAUSE_SECONDS
    overlap: float = OVERLAP_SECONDS
    watched_every: int = 2
    held_every: int = 5
    names_every: int = 10
    queues_every: int = 30
    times_every: int = 60


class Reconciler:
    """Takes its steps round by round, each by itself: one that fails keeps no other from its turn.

    Args:
        every_round: calls that must not wait for a database that is away.
        interval: seconds between two rounds.
    """

    def __init__(
        self,
        *,
        steps: Sequence[Step],
        every_round: Sequence[Callable[[], None]] = (),
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._steps = steps
        self._every_round = every_round
        self._interval = interval
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Takes the steps until `stop`."""
        count = 0
        taking: asyncio.Task[None] | None = None
        while not self._stop.is_set():
            with contextlib.ExitStack() as calls:  # each is called, whatever another raises
                for call in self._every_round:
                    calls.callback(call)
            # A round waits for as long as the database is away; the calls above must not.
            if taking is None or taking.done():
                taking = asyncio.create_task(self._take_round(count))
                count += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._interval)
        if taking is not None:
            taking.cancel()

    async def _take_round(self, count: int) -> None:
        for step in self._steps:
            if count % step.every == 0:
                await step.take()
