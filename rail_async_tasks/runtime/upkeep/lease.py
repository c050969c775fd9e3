"""The lease: proves that this process lives, and notices when others take it for dead.

It is renewed while the event loop ticks and the writers write: a process that does neither must not
keep its tasks. A lease that can't be renewed is given up before others may take its rows. Its
bodies are then asked to end, and may still be ending when others take the rows.

* Lapsed: the time in the lease's row has passed without a renewal. Others may condemn it.
* Condemned, dead: its row is marked dead, by another process or at its end. That is final.
* Lost: its own process no longer counts on it: it was condemned, or could not be renewed in time.
* Fenced: the process has acted on the loss: it claims nothing, and hands back what ran under it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import Renewal, Vitals
from rail_async_tasks.ledger.upkeep import Leases
from rail_async_tasks.runtime.upkeep.clock import boottime
from rail_async_tasks.runtime.upkeep.lease_term import LeaseTerm
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import counted, describe, sentence

logger = get_logger("rail_async_tasks.runtime")

# By the ledger's clock a lease may have less left than by its holder's clock. If the difference is
# more than this share of the lease, the ledger's clock was set ahead. A smaller step is harmless: a
# process that renews in time keeps its lease.
CLOCK_SHARE = 0.3
# The lease is not renewed while the loop or a writer has been stuck for this share of it.
STUCK_SHARE = 1 / 3
# The rows of dead runtimes are deleted this often, in seconds.
FORGET_EVERY_SECONDS = 3600.0


class Leaseholder(Protocol):
    """The runtime, as its lease sees it. All but `is_writing` are called on its loop."""

    def is_writing(self, seconds: float) -> bool:
        """Returns whether no write has been stuck for so long. From any thread."""
        ...

    def leased(self, runtime_id: UUID) -> None:
        """A lease under this id has begun: executions may be held under it."""
        ...

    def fenced(self, runtime_id: UUID) -> None:
        """The lease under this id is lost: attempts that run under it must end."""
        ...

    def lease_ended(self) -> None:
        """The lease has ended for good, after `LeaseThread.stop` or an error."""
        ...

    def dead_holders(self, holders: frozenset[UUID]) -> None:
        """These runtimes are dead, and executions are still running in their name."""
        ...

    def broke(self, part: str, error: BaseException) -> None:
        """An error has ended the thread of that name, and with it the lease."""
        ...


class LoopClosed(Exception):
    """The runtime's loop was closed under the lease."""


class Lease:
    """The lease of one runtime. `LeaseThread` calls `beat` in time.

    Args:
        leases: the rows of all runtimes. Used by one thread.
        call_loop: runs a call on the runtime's loop, soon; raises RuntimeError once it is closed.
        lag: returns the seconds since the loop's last sign of life.
        names: returns the tasks that this process knows at that time.
        vitals: returns what the lease's row shows of this process.
        program: the command that runs in this process.
        seconds: the length of the lease.
        clock: returns seconds that pass also while the machine sleeps.
    """

    def __init__(
        self,
        *,
        leases: Leases,
        holder: Leaseholder,
        call_loop: Callable[..., object],
        lag: Callable[[], float],
        names: Callable[[], frozenset[str]],
        seconds: float,
        vitals: Callable[[], Vitals] = Vitals,
        program: str = "",
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.seconds = seconds
        self.clock = clock
        self._leases = leases
        self._one_writer = leases.one_writer
        self._holder = holder
        self._call_loop = call_loop
        self._lag = lag
        self._names = names
        self._vitals = vitals
        self._program = program
        # The loop may find the lease over while the thread hangs in a renewal.
        self._lock = threading.Lock()
        self._term = LeaseTerm(seconds)
        self._id: UUID | None = None
        self._forget_at = clock()
        # No other process was alive at the last renewal. Read in any thread.
        self.alone = False
        self._backoff = Backoff("The lease could not be renewed", log=logger, clock=clock)

    def give_up_if_over(self) -> None:
        """Ends a lease that could not be renewed in time. From any thread.

        Raises:
            LoopClosed: there is no loop any more that could be notified.
        """
        if self._one_writer:
            return  # while the file is locked no other process can take the lease either
        with self._lock:
            over = self._term.is_over(self.clock())
        if over:
            self.fence("it could not be renewed in time")

    @property
    def age(self) -> float | None:
        """Seconds since the last renewal that succeeded; None without a lease. From any thread."""
        with self._lock:
            return self._term.age(self.clock())

    @property
    def failing(self) -> bool:
        """Returns whether the last renewal failed. From any thread."""
        return self._backoff.failing

    def fence(self, why: str) -> None:
        """Gives the lease up; the next beat begins another, under a new id. From any thread.

        Raises:
            LoopClosed: there is no loop any more that could be notified.
        """
        with self._lock:
            lost, self._id = self._id, None
            self._term.lost()
        if lost is None:
            return
        logger.error("The lease of %s is over: %s Its tasks are handed back.", lost, sentence(why))
        self._notify(self._holder.fenced, lost)

    # --- in the lease's thread -------------------------------------------------------------------

    def beat(self) -> None:
        """Renews the lease or begins a new one, then condemns leases that have lapsed.

        Does neither while the loop or a writer is stuck. Logs errors of the database; the next beat
        tries again.

        Raises:
            LoopClosed: there is no loop any more that could be notified.
        """
        stuck_seconds = self.seconds * STUCK_SHARE
        if self._lag() > stuck_seconds:
            logger.error("The event loop does not answer: the lease is not renewed")
            return
        if not self._holder.is_writing(stuck_seconds):
            return  # the writer has logged it
        sent_at = self.clock()
        try:
            current = self._id
            if current is None:
                self._begin(sent_at)
            else:
                renewal = self._leases.renew(current, self.seconds, self._vitals())
                if not renewal.alive:
                    self.fence("another process took this one for dead")
                    return
                self.alone = not renewal.others
                self._notice_clock(renewal.left)
                self._renewed(current, sent_at)
                self._judge(renewal)
            self._backoff.recovered()
        except LoopClosed:
            raise
        except BaseException as error:  # any error: without this thread the process is of no use
            self._leases.reset()
            self._backoff.failed(describe(error), error)
            if self._id is not None and self._one_writer and "locked" in str(error):
                self._renewed(self._id, sent_at)

    def end(self, fault: BaseException | None = None) -> None:
        """Ends the lease for good. `fault` is the error that has ended its thread, if one has."""
        try:
            if fault is not None:
                # What runs here is handed back. The row is not marked dead: others recover the
                # executions that are left only after it has lapsed.
                self.fence("its thread has ended by an error")
        except LoopClosed:
            logger.debug("The lease's loop is closed")
        try:
            if self._id is not None:
                self._leases.end(self._id)
            self._leases.reset()
        except BaseException as error:
            logger.warning("The end of the lease could not be stored: %s", error)
        try:
            self._notify(self._holder.lease_ended)
            if fault is not None:
                self._notify(self._holder.broke, threading.current_thread().name, fault)
        except LoopClosed:
            logger.debug("The lease's loop is closed")

    def _begin(self, sent_at: float) -> None:
        fresh = new_id()
        self._leases.begin(fresh, self._names(), self.seconds, self._vitals(), self._program)
        with self._lock:
            self._id = fresh
        self._renewed(fresh, sent_at)
        self._notify(self._holder.leased, fresh)

    def _renewed(self, runtime_id: UUID, sent_at: float) -> None:
        if self._one_writer:
            # While the file was locked no other process could write either, nor condemn this one.
            sent_at = self.clock()
        with self._lock:
            if self._id == runtime_id:  # the loop has not given it up meanwhile
                self._term.renewed(sent_at)

    def _notice_clock(self, left: float | None) -> None:
        """Has no runtime condemned for one lease after the ledger's clock was set ahead.

        It notices the step by this process's own lease, which had less left before its renewal by
        the ledger's clock than by this process's clock.
        """
        now = self.clock()
        with self._lock:
            if not self._term.may_judge(now):
                return
            if left is None or left > self._term.left(now) - self.seconds * CLOCK_SHARE:
                return
            self._term.clock_was_set(now)
        logger.warning(
            "The clock of the database was set ahead, or this process was held up: for %g s no"
            " process is taken for dead", self.seconds,
        )  # fmt: skip

    def _judge(self, renewal: Renewal) -> None:
        """Condemns runtimes that have been silent for their lease; reports what they held."""
        with self._lock:
            if not self._term.may_judge(self.clock()):
                return
        holders = renewal.dead_holders
        if renewal.silent:
            silent = self._leases.condemn()
            if silent:
                logger.warning(
                    "Silent for longer than the lease: %s", counted(silent, "process", "processes")
                )
            holders = frozenset(self._leases.dead_holders())
        if holders:
            self._notify(self._holder.dead_holders, holders)
        if self.clock() >= self._forget_at:
            self._forget_at = self.clock() + FORGET_EVERY_SECONDS
            self._leases.forget()

    def _notify(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._call_loop(callback, *args)
        except RuntimeError as error:
            raise LoopClosed from error
