"""Admission: whether one more execution may be created, by `max_pending` and `rate_limit`.

How many wait is counted in the ledger at most once a second; in between this process adds what it
leaves waiting and what is on its way in. Starts are looked up in the ledger each time, so that a
rate holds across processes.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Self
from uuid import UUID

from django.db import DatabaseError

from rail_async_tasks.conf import RateLimit
from rail_async_tasks.errors import BackendUnavailable, QueueFull, RateLimited
from rail_async_tasks.ids import MAX_AHEAD, first_id_at, time_of
from rail_async_tasks.ledger.counts import Counts
from rail_async_tasks.runtime.anonymous_starts import AnonymousStarts
from rail_async_tasks.runtime.limits import EVERYBODY, Limits
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.runtime")

# A count is good for so long, in seconds.
COUNT_INTERVAL: Final = 1.0
# Owners whose counts are remembered.
MAX_OWNERS: Final = 10_000

_RESERVED: Final = (
    'The rest of the queue is for signed-in users (limits["anonymous_pending_percent"]). Log in, or'
    " try again later."
)


class _Count:
    """Counts of executions that wait or are on their way in, as this process knows them."""

    __slots__ = ("added", "counted_at", "entering", "known", "waiting")

    def __init__(self) -> None:
        self.counted_at = float("-inf")
        self.known = False  # the ledger has answered once: until then each caller asks it
        self.waiting = 0
        self.entering = 0
        self.added = 0  # since the last count began, which may not have seen them

    def add(self, number: int) -> None:
        self.waiting += number
        self.added += number

    def is_fresh(self, now: float) -> bool:
        return self.known and now - self.counted_at < COUNT_INTERVAL


class Admission:
    """Counts of waiting executions, cached per process. Thread-safe."""

    def __init__(self, ledger: Counts) -> None:
        self._ledger = ledger
        self.anonymous = AnonymousStarts(ledger)
        self._lock = threading.Lock()
        self._counts: OrderedDict[str | None, _Count] = OrderedDict()
        # By owner; of those alone whose starts have a rate.
        self._entering: dict[str | None, set[UUID]] = {}

    def left_waiting(self, owner_id: str | None, number: int = 1) -> None:
        """So many more executions of this owner wait."""
        with self._lock:
            count = self._counts.get(EVERYBODY)
            if count is not None:
                count.add(number)
            if owner_id is not None:
                count = self._counts.get(owner_id)
                if count is not None:
                    count.add(number)

    def needs_ledger(self, limits: Limits) -> bool:
        """Returns whether a check will read the ledger, which must not block an event loop."""
        if limits.rate is not None:
            return True
        if limits.address is not None and self.anonymous.is_due(limits.address):
            return True
        now = time.monotonic()
        for key, _ in limits.waiting:
            count = self._counts.get(key)
            if count is None or not count.is_fresh(now):
                return True
        return False

    # --- for `Entry` -----------------------------------------------------------------------------

    def count(self, limits: Limits) -> None:
        """Counts anew what was counted too long ago."""
        if limits.address is not None:
            self.anonymous.count(limits.address)
        with self._lock:
            stale = [(key, limit) for key, limit in limits.waiting if self._is_due(key)]
        for key, limit in stale:
            try:
                waiting = self._ledger.count_waiting(key, limit)
            except DatabaseError as error:
                # The creation itself waits for the database, or fails with it.
                logger.warning("The waiting tasks could not be counted: %s", error)
                continue
            with self._lock:
                if key in self._counts:
                    count = self._counts[key]
                    # This count may be too high for a second. A count that is too low would let
                    # many callers past the limit.
                    count.waiting = waiting + count.added
                    count.known = True

    def _is_due(self, key: str | None) -> bool:
        """Returns whether the caller is to count; other callers take the last count meanwhile."""
        count = self._counts.get(key)
        now = time.monotonic()
        if count is not None and count.is_fresh(now):
            return False
        if count is None:
            count = self._counts[key] = _Count()
            while len(self._counts) > MAX_OWNERS:
                self._counts.popitem(last=False)
        count.counted_at = now
        if count.known:
            count.added = 0
        return True

    def let_in(self, entry: Entry) -> frozenset[UUID]:
        """Admits the entry; returns which of its owner's are on their way already.

        Raises:
            QueueFull: more would wait than may.
        """
        limits = entry.limits
        with self._lock:
            if limits.address is not None and not entry.closed:
                for execution_id in entry.ids:
                    self.anonymous.let_in(limits.address, execution_id)
            counts = []
            for key, limit in limits.waiting:
                count = self._counts.get(key)
                if count is not None:
                    taken = count.waiting + count.entering + len(entry.ids)
                    if taken > limit:
                        raise QueueFull
                    if key is EVERYBODY and taken > limit - limits.reserved:
                        raise QueueFull(_RESERVED)
                    counts.append(count)
            if not entry.closed:
                entry.counts = counts
                for count in counts:
                    count.entering += len(entry.ids)
            if limits.rate is None:
                return frozenset()
            ahead = frozenset(self._entering.get(limits.owner_id, ()))
            if not entry.closed:
                self._entering.setdefault(limits.owner_id, set()).update(entry.ids)
            return ahead

    def check_rate(
        self, limits: Limits, rate: RateLimit, ahead: frozenset[UUID], number: int = 1
    ) -> None:
        """Checks that so many more starts within `rate.period` seconds are at most `rate.count`.

        `ahead` are the owner's starts that are being stored: they count too.

        Raises:
            RateLimited: they would exceed the rate.
            BackendUnavailable: the database fails.
        """
        now = time.time()
        left = rate.count - len(ahead) - number + 1
        if left <= 0:
            raise RateLimited
        since, until = first_id_at(now - rate.period), first_id_at(now + MAX_AHEAD)
        try:
            newest = self._ledger.nth_newest(limits.owner_id, since, until, left, besides=ahead)
        except DatabaseError as error:
            raise BackendUnavailable("The task could not be stored: the database fails.") from error
        if newest is not None:
            raise RateLimited(retry_after=max(1, round(time_of(newest) + rate.period - now)))

    def let_out(self, entry: Entry, *, stored: bool) -> None:
        with self._lock:
            entry.closed = True
            if entry.limits.address is not None:
                for execution_id in entry.ids:
                    self.anonymous.let_out(entry.limits.address, execution_id, stored=stored)
            for count in entry.counts:
                count.entering -= len(entry.ids)
            if entry.limits.rate is not None:
                owner_id = entry.limits.owner_id
                entering = self._entering.get(owner_id, set())
                entering.difference_update(entry.ids)
                if not entering:
                    self._entering.pop(owner_id, None)


class Entry:
    """Creations of one owner on their way, all let in or none.

    As a context manager it surrounds the check and the creation.
    """

    __slots__ = ("_admission", "closed", "counts", "ids", "limits")

    def __init__(self, admission: Admission, ids: Sequence[UUID], limits: Limits) -> None:
        self._admission = admission
        self.ids = ids
        self.limits = limits
        # Those that it adds to, once it has been let in.
        self.counts: Sequence[_Count] = ()
        # Set by the end of a caller who was cancelled while a thread was still checking.
        self.closed = False

    def check(self) -> None:
        """The check that may read the ledger: see `Admission.needs_ledger`.

        Raises:
            QueueFull, RateLimited: they must not be created.
        """
        self._admission.count(self.limits)
        self.check_more()

    def check_more(self) -> None:
        """The same for more creations of a caller who has had one checked: counts nothing anew.

        A count in the caller's transaction would see what that has inserted, and count it twice.
        """
        limits = self.limits
        ahead = self._admission.let_in(self)
        if limits.rate is not None:
            self._admission.check_rate(limits, limits.rate, ahead, len(self.ids))

    def let_in(self) -> None:
        """The check without the ledger, where `Admission.needs_ledger` is false.

        Raises:
            QueueFull: they must not be created.
        """
        self._admission.let_in(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # A caller who has gone may have a row all the same.
        stored = kind is None or not issubclass(kind, Exception)
        self._admission.let_out(self, stored=stored)
