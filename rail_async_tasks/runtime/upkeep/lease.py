"""The lease: how a process proves that it lives, and learns that it is thought dead.

A thread of its own renews the process's row while the event loop ticks and the writers write; a
process that only breathes must not keep its tasks. What the lease cannot vouch for any more it
gives up in time: before others may take it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol
from uuid import UUID

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.upkeep import Leases
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe
from rail_async_tasks.vital import make_vital

logger = get_logger("rail_async_tasks.runtime")

# Of the lease: how often it is renewed, and how long before its end the process gives it up.
RENEWALS = 5
MARGIN = 0.2
# A lease that has less left by the ledger's clock than by ours, by this share of it, tells that the
# ledger's was set ahead. Less is no danger to a process that renews in time.
CLOCK_SHARE = 0.3
# How often (seconds) the thread looks whether there is something to do.
LOOK = 0.25
# Dead runtimes' rows are looked through this often, in seconds.
FORGET_EVERY = 3600.0


def boottime() -> float:
    """Seconds that pass also while the machine sleeps, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Term:
    """What is known of one lease, by the clock: pure.

    Args:
        seconds: the lease. Others take this process for dead once they have not seen it so long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._good_since: float | None = None  # renewed without a gap from then on
        self._last_good: float | None = None  # when the last good renewal was sent

    def renewed(self, sent_at: float) -> None:
        """A renewal that was sent then has gone through."""
        if self._last_good is None or sent_at - self._last_good > self.seconds:
            self._good_since = sent_at
        self._last_good = sent_at

    def left(self, now: float) -> float:
        """Seconds until others may take this process for dead, as far as it knows."""
        return 0.0 if self._last_good is None else self._last_good + self.seconds - now

    def clock_was_set(self, now: float) -> None:
        """By the ledger's clock every lease has lapsed, through no fault of its holder."""
        self._good_since = now

    def lost(self) -> None:
        """The lease is over. The next one begins with `renewed`."""
        self._good_since = self._last_good = None

    def is_over(self, now: float) -> bool:
        """Whether others may soon take this process for dead."""
        return self._last_good is not None and (now - self._last_good > self.seconds * (1 - MARGIN))

    def may_judge(self, now: float) -> bool:
        """Whether it may take others for dead: it has seen one whole lease without a gap itself.

        After an outage of the database nobody was able to renew, and nobody is to blame.
        """
        return (
            self._good_since is not None
            and not self.is_over(now)
            and now - self._good_since > self.seconds
        )


class Leaseholder(Protocol):
    """The runtime, as its lease sees it. All but `is_writing` are called on its loop."""

    def is_writing(self, seconds: float) -> bool:
        """Whether no write has been stuck for so long. From any thread."""
        ...

    def leased(self, runtime_id: UUID) -> None:
        """It holds a lease under this id, and may hold executions."""
        ...

    def fenced(self, runtime_id: UUID) -> None:
        """The lease under this id is over: what runs under it is to end."""
        ...

    def lease_ended(self) -> None:
        """There is no lease any more, nor will there be: `Lease.stop` was called."""
        ...

    def orphans(self, holders: frozenset[UUID]) -> None:
        """Executions are running in the name of these, which live no more."""
        ...

    def broke(self, part: str, error: BaseException) -> None:
        """An error has ended the thread of that name, and with it the lease."""
        ...


class LoopClosed(Exception):
    """There is no runtime any more."""


class Lease:
    """The thread that keeps the lease of one runtime.

    Args:
        call_loop: runs a call on the runtime's loop, soon; raises RuntimeError once it is closed.
        lag: seconds since the loop's last sign of life.
        names: the tasks that this process knows, at the time of asking.
    """

    def __init__(
        self,
        leases: Leases,
        holder: Leaseholder,
        call_loop: Callable[..., object],
        lag: Callable[[], float],
        names: Callable[[], frozenset[str]],
        seconds: float,
    ) -> None:
        self._leases = leases
        self._one_writer = leases.one_writer
        self._holder = holder
        self._call_loop = call_loop
        self._lag = lag
        self._names = names
        self._seconds = seconds
        # The loop may find the lease over while the thread hangs in a renewal.
        self._lock = threading.Lock()
        self._term = Term(seconds)
        self._id: UUID | None = None
        self._stop = threading.Event()
        self._forget_at = time.monotonic()
        self._backoff = Backoff("The lease could not be renewed", "It is tried again", log=logger)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="rail-tasks-lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the lease, in a while; `lease_ended` tells. From any thread."""
        self._stop.set()

    def give_up_if_over(self) -> None:
        """Ends a lease that could not be renewed in time. From any thread."""
        if self._one_writer:
            return  # while the file is locked nobody else can take it either
        with self._lock:
            over = self._term.is_over(boottime())
        if over:
            with suppress(LoopClosed):
                self._fence("it could not be renewed in time")

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        make_vital()
        interval = self._seconds / RENEWALS
        beat_at = 0.0
        fault: BaseException | None = None
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                self.give_up_if_over()
                if now >= beat_at:
                    self._beat()
                    # A renewal that had to wait has stored an old time.
                    beat_at = now + interval if time.monotonic() - now < interval else 0.0
                self._stop.wait(min(LOOK, interval))
        except LoopClosed:  # under us: nothing runs on it
            logger.debug("The lease's loop is closed")
        except BaseException as error:  # a runtime without a lease must not live on in silence
            logger.critical("The lease's thread has ended by an error", exc_info=True)
            fault = error
        self._end(fault)

    def _beat(self) -> None:
        """Renews the lease, or takes a new one, and looks for others that have lost theirs."""
        if self._lag() > self._seconds / 3:
            logger.error("The event loop does not answer: the lease is not renewed")
            return
        if not self._holder.is_writing(self._seconds / 3):
            return  # the writer has said so
        sent_at = boottime()
        try:
            current = self._id
            if current is not None:
                self._notice_clock(current)
            if current is None:
                self._begin(sent_at)
            elif self._leases.renew(current, self._seconds):
                self._renewed(current, sent_at)
            else:
                self._fence("another process took this one for dead")
                return
            self._judge()
            self._backoff.recovered()
        except LoopClosed:
            raise
        except (
            BaseException
        ) as error:  # whatever it is: without this thread the process is of no use
            self._leases.reset()
            self._backoff.failed(describe(error), error)
            if self._id is not None and self._one_writer and "locked" in str(error):
                self._renewed(self._id, sent_at)

    def _begin(self, sent_at: float) -> None:
        fresh = new_id()
        self._leases.begin(fresh, self._names(), self._seconds)
        with self._lock:
            self._id = fresh
        self._renewed(fresh, sent_at)
        self._tell(self._holder.leased, fresh)

    def _renewed(self, runtime_id: UUID, sent_at: float) -> None:
        if self._one_writer:
            # While the file was locked nobody else could write either, nor take us for dead.
            sent_at = boottime()
        with self._lock:
            if self._id == runtime_id:  # the loop has not given it up meanwhile
                self._term.renewed(sent_at)

    def _notice_clock(self, current: UUID) -> None:
        """Judges no other runtime for one lease after the ledger's clock was set ahead.

        Then this process's own lease, too, has less left by that clock than since its last renewal.
        """
        with self._lock:
            if not self._term.may_judge(boottime()):
                return
        left = self._leases.left(current)
        now = boottime()
        with self._lock:
            if left is None or left > self._term.left(now) - self._seconds * CLOCK_SHARE:
                return
            self._term.clock_was_set(now)
        logger.warning(
            "The clock of the database was set ahead, or this process was held up: for %g s no"
            " process is taken for dead", self._seconds,
        )  # fmt: skip

    def _judge(self) -> None:
        with self._lock:
            if not self._term.may_judge(boottime()):
                return
        silent = self._leases.condemn()
        if silent:
            logger.warning("%d processes have been silent for longer than their lease", silent)
        holders = self._leases.orphaned()
        if holders:
            self._tell(self._holder.orphans, frozenset(holders))
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + FORGET_EVERY
            self._leases.forget()

    def _fence(self, why: str) -> None:
        """Gives the lease up; the next beat takes another, under a new id."""
        with self._lock:
            lost, self._id = self._id, None
            self._term.lost()
        if lost is None:
            return
        logger.error("The lease of %s is over: %s. What ran under it is handed back.", lost, why)
        self._tell(self._holder.fenced, lost)

    def _end(self, fault: BaseException | None) -> None:
        with suppress(LoopClosed):
            if fault is not None:
                # What runs is handed back; others take it over only when the row has lapsed.
                self._fence("its thread has ended by an error")
        try:
            if self._id is not None:
                self._leases.end(self._id)
            self._leases.reset()
        except BaseException as error:
            logger.warning("The end of the lease could not be stored: %s", error)
        with suppress(LoopClosed):
            self._tell(self._holder.lease_ended)
            if fault is not None:
                self._tell(self._holder.broke, threading.current_thread().name, fault)

    def _tell(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._call_loop(callback, *args)
        except RuntimeError as error:
            raise LoopClosed from error
