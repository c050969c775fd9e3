"""The reconciler: re-reads the ledger for changes that a lost message would have announced."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from uuid import UUID

import msgspec

from rail_async_tasks.bus.port import Bus
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.upkeep import Recoveries
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.runtime.failures import INLINE_HOLD
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.upkeep.cancels import PAUSE_SECONDS, CancelReader
from rail_async_tasks.runtime.upkeep.clock import boottime
from rail_async_tasks.runtime.upkeep.recovery import Recoverer
from rail_async_tasks.runtime.upkeep.steps import Step
from rail_async_tasks.runtime.upkeep.unknown import UnknownNames, UnknownRows
from rail_async_tasks.runtime.upkeep.watched import OVERLAP_SECONDS, WatchedReader
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")


class ReconcilerTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds between two rounds, and in every how many rounds each step is taken."""

    # A cancel that another process has asked for is found within this time.
    interval: float = 1.0
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
        recoveries, recoverer: None where there is but one process.
        running: ids of the executions that run here.
        cancel: asks the attempt of that execution to end, if it runs here.
        find_callbacks: takes over failure callbacks of processes that have died.
        every_round: calls that must not wait for a database that is away.
        emits: the setting `emit_subscriptions`.
        ttl: for so long (seconds) finished executions are kept; None: for good.
        unknown_task_seconds: executions of an unknown task fail after so long.
    """

    def __init__(  # noqa: PLR0913 (the collaborators of its steps)
        self,
        *,
        ledger: Ledger,
        bus: Bus,
        slots: Slots,
        state: RuntimeState,
        recoveries: Recoveries | None,
        recoverer: Recoverer | None,
        running: Collection[UUID],
        cancel: Callable[[UUID], None],
        names: Callable[[], Collection[str]],
        find_callbacks: Callable[[], Awaitable[None]],
        every_round: Sequence[Callable[[], None]],
        emits: bool,
        ttl: float | None,
        unknown_task_seconds: float,
        timings: ReconcilerTimings = ReconcilerTimings(),  # noqa: B008 (frozen)
        clock: Callable[[], float] = time.monotonic,
        boot_clock: Callable[[], float] = boottime,
    ) -> None:
        self._ledger = ledger
        self._slots = slots
        self._running = running
        self._every_round = every_round
        self._ttl = ttl
        self._interval = timings.interval
        self._stop = asyncio.Event()
        watched = WatchedReader(
            ledger=ledger, bus=bus, running=running, emits=emits,
            clock=boot_clock, overlap=timings.overlap,
        )  # fmt: skip
        self.cancels: CancelReader | None = None
        steps: tuple[Step, ...] = ()
        if recoveries is not None and recoverer is not None:
            self.cancels = CancelReader(
                recoveries=recoveries, state=state, cancel=cancel, pause=timings.cancel_pause
            )
            rows = UnknownRows(
                recoveries=recoveries, state=state, running=running, disown=recoverer.disown
            )
            unknown_names = UnknownNames(
                recoveries=recoveries, known=names, fail=recoverer.fail_unknown,
                seconds=unknown_task_seconds, clock=clock,
            )  # fmt: skip
            steps = (
                Step("running tasks", rows.read, every=timings.held_every),
                Step("unknown names", unknown_names.read, every=timings.names_every),
            )
        self._steps = (
            *steps,
            Step("watched tasks", watched.read_tasks, every=timings.watched_every),
            Step("tasks of watched owners", watched.read_owners, every=timings.watched_every),
            Step("queues", self._read_queues, every=timings.queues_every),
            Step("failure callbacks", find_callbacks, every=timings.names_every),
            Step("wrong times", self._correct_times, every=timings.times_every),
        )

    def stop(self) -> None:
        self._stop.set()
        if self.cancels is not None:
            self.cancels.stop()

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
        if self._running and self.cancels is not None:
            await self.cancels.step.take()
        for step in self._steps:
            if count % step.every == 0:
                await step.take()

    async def _read_queues(self) -> None:
        """Serves queues that no setting or declaration names."""
        for queue in await self._ledger.queues():
            self._slots.know(queue)

    async def _correct_times(self) -> None:
        count = await self._ledger.correct_times(self._ttl, INLINE_HOLD)
        if count:
            logger.warning(
                "%d rows had times from the future: the clock of the database (on SQLite, of this"
                " machine) was ahead. They are corrected; see that it is kept by NTP.", count,
            )  # fmt: skip
