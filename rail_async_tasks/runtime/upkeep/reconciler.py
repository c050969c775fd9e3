"""The reconciler: re-reads the ledger for changes that a lost message would have announced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import msgspec

from rail_async_tasks.runtime.upkeep.cancels import PAUSE_SECONDS
from rail_async_tasks.runtime.upkeep.steps import Step
from rail_async_tasks.runtime.upkeep.watched import OVERLAP_SECONDS

# In a quiet process the reconciler sleeps through every other round.
QUIET_ROUNDS = 2

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
    # In place of the last two while the process has no work: what they find is left by a mishap.
    quiet_held_every: int = 20
    quiet_names_every: int = 30
    queues_every: int = 30
    times_every: int = 60


class Reconciler:
    """Takes its steps round by round, each by itself: one that fails keeps no other from its turn.

    Args:
        every_round: calls that must not wait for a database that is away.
        interval: seconds between two rounds.
        quiet: returns whether this process has had no work lately. `wake` ends that.
    """

    def __init__(
        self,
        *,
        steps: Sequence[Step],
        every_round: Sequence[Callable[[], None]] = (),
        interval: float = INTERVAL_SECONDS,
        quiet: Callable[[], bool] = lambda: False,
    ) -> None:
        self._quiet = quiet
        self._steps = steps
        self._every_round = every_round
        self._interval = interval
        self._stopped = False
        self._wake = asyncio.Event()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def wake(self) -> None:
        """Work has come after a quiet time: the next round is due."""
        self._wake.set()

    async def run(self) -> None:
        """Takes the steps until `stop`."""
        count = 0
        taking: asyncio.Task[None] | None = None
        rounds = 1
        while not self._stopped:
            with contextlib.ExitStack() as calls:  # each is called, whatever another raises
                for call in self._every_round:
                    calls.callback(call)
            # A round waits for as long as the database is away; the calls above must not.
            if taking is None or taking.done():
                taking = asyncio.create_task(self._take(range(count, count + rounds)))
                count += rounds
            rounds = QUIET_ROUNDS if self._quiet() else 1
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), rounds * self._interval)
        if taking is not None:
            taking.cancel()

    async def _take(self, rounds: range) -> None:
        """Takes the steps of these rounds, each step once."""
        for step in self._steps:
            if step.is_due(rounds, quiet=self._quiet()):
                await step.take()
