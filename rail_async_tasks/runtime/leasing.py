"""The runtime's side of its lease: what starts and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from uuid import UUID

from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.records import Vitals
from rail_async_tasks.programs import program_of
from rail_async_tasks.runtime.attempts.outcomes import Interruption
from rail_async_tasks.runtime.attempts.running import Running
from rail_async_tasks.runtime.claims.deliveries import Deliveries
from rail_async_tasks.runtime.due import Due
from rail_async_tasks.runtime.state import RuntimeState
from rail_async_tasks.runtime.upkeep.lease import Lease
from rail_async_tasks.runtime.upkeep.lease_thread import LeaseThread
from rail_async_tasks.runtime.upkeep.recovery import Recoverer


class Leasing:
    """Holds the lease (`upkeep.lease.Leaseholder`). On the runtime's loop, but for `is_writing`.

    Args:
        lag: returns the seconds since the loop's last sign of life. From any thread.
        names: returns the tasks that this process knows.
        vitals: returns what other processes are shown of this one. From any thread.
        quiet: returns whether this process has had no work lately. From any thread.
        lease_seconds: the length of the lease.
        broke: is called with the name of a thread that an error has ended, and that error.
    """

    def __init__(  # noqa: PLR0913 (collaborators)
        self,
        *,
        state: RuntimeState,
        ledger: Ledger,
        running: Running,
        due: Due,
        deliveries: Deliveries | None,
        recoverer: Recoverer | None,
        lag: Callable[[], float],
        names: Callable[[], frozenset[str]],
        vitals: Callable[[], Vitals],
        quiet: Callable[[], bool],
        lease_seconds: float,
        broke: Callable[[str, BaseException], None],
    ) -> None:
        self._state = state
        self._ledger = ledger
        self._running = running
        self._due = due
        self._deliveries = deliveries
        self._recoverer = recoverer
        self._lag = lag
        self._names = names
        self._vitals = vitals
        self._quiet = quiet
        self._seconds = lease_seconds
        self.broke = broke
        self._loop = asyncio.get_running_loop()
        self.lease: Lease | None = None
        self._thread: LeaseThread | None = None
        self._ended = asyncio.Event()

    def start(self) -> None:
        """Starts the lease's thread; a ledger in this process's memory needs no lease."""
        leases = self._ledger.leases()
        if leases is None:
            self._state.holding = True
            return
        lease = Lease(
            leases=leases, holder=self, call_loop=self._loop.call_soon_threadsafe, lag=self._lag,
            names=self._names, vitals=self._vitals, program=program_of(sys.argv),
            seconds=self._seconds,
        )  # fmt: skip
        thread = LeaseThread(lease, quiet=self._quiet)
        thread.start()
        # A thread that could not start has no lease to end.
        self.lease, self._thread = lease, thread

    @property
    def alone(self) -> bool:
        """Returns whether no other process was alive at the last renewal."""
        return self.lease is None or self.lease.alone

    def check(self) -> None:
        """Gives a lease up that could not be renewed in time, whatever its thread waits for."""
        if self.lease is not None:
            self.lease.give_up_if_over()

    async def end(self, timeout: float) -> None:
        """Ends the lease, so that other processes need not wait for it to lapse."""
        if self._recoverer is not None:
            self._recoverer.stop()
        if self._thread is not None:
            self._thread.stop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), timeout)

    # --- as the lease sees it --------------------------------------------------------------------

    def is_writing(self, seconds: float) -> bool:
        writers = self._ledger.writers()
        states = () if writers is None else writers.states()
        return all((state.failing_for or 0) < seconds for state in states)

    def leased(self, runtime_id: UUID) -> None:
        self._state.leased(runtime_id)
        self._due.look_everywhere()
        if self._deliveries is not None:
            self._deliveries.notice()

    def fenced(self, runtime_id: UUID) -> None:
        if self._state.fenced(runtime_id):
            self._running.interrupt_all(Interruption.HAND_BACK)

    def lease_ended(self) -> None:
        self._state.holding = False
        self._ended.set()

    def dead_holders(self, holders: frozenset[UUID]) -> None:
        assert self._recoverer is not None, "a ledger with leases has recoveries"
        self._recoverer.recover(holders)
