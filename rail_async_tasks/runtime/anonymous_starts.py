"""Counts of the waiting executions that anonymous callers started, by address.

Rows have no address, so each process knows those that it let in. It keeps their ids, and asks the
ledger which of them still wait once an address has as many as may, and at most once a second.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Final
from uuid import UUID

import msgspec
from django.db import DatabaseError

from rail_async_tasks.errors import QueueFull
from rail_async_tasks.ledger.counts import Counts
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.states import WAITING

logger = get_logger("rail_async_tasks.runtime")

# A count is good for so long, in seconds.
COUNT_INTERVAL: Final = 1.0
# Ids of all addresses together, about 100 bytes each. Past it the address that has started nothing
# for the longest time is forgotten.
MAX_IDS: Final = 50_000


class AddressLimit(msgspec.Struct, frozen=True, gc=False):
    """How many executions may wait that anonymous callers at this address started."""

    address: str
    most: int


class _Address:
    """What one address has started and has not ended, as this process knows it."""

    __slots__ = ("counted_at", "entering", "running", "unfinished")

    def __init__(self) -> None:
        self.counted_at = float("-inf")
        self.entering: set[UUID] = set()
        self.unfinished: set[UUID] = set()
        self.running = 0  # of the unfinished, at the last count

    @property
    def waiting(self) -> int:
        return len(self.unfinished) - self.running + len(self.entering)

    def is_due(self, most: int) -> bool:
        """Returns whether the ledger must say how many still wait."""
        return self.waiting >= most and time.monotonic() - self.counted_at >= COUNT_INTERVAL


class AnonymousStarts:
    """Counts of anonymous starts by address. Thread-safe; only a count reads the ledger."""

    def __init__(self, ledger: Counts) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        # The address that has started something last is the last one.
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._ids = 0

    def is_due(self, limit: AddressLimit) -> bool:
        """Returns whether `count` will read the ledger, which must not block an event loop."""
        found = self._addresses.get(limit.address)
        return found is not None and found.is_due(limit.most)

    def count(self, limit: AddressLimit) -> None:
        """Asks the ledger which executions of the address still wait, where that is due."""
        with self._lock:
            found = self._addresses.get(limit.address)
            if found is None or not found.is_due(limit.most):
                return
            found.counted_at = time.monotonic()
            known = frozenset(found.unfinished)
        try:
            statuses = self._ledger.unfinished(known)
        except DatabaseError as error:
            # The creation itself waits for the database, or fails with it.
            logger.warning("The waiting tasks of an address could not be counted: %s", error)
            return
        with self._lock:
            ended = found.unfinished & (known - statuses.keys())
            found.unfinished -= ended
            found.running = sum(status not in WAITING for status in statuses.values())
            if self._addresses.get(limit.address) is found:
                self._ids -= len(ended)
                self._drop_if_empty(limit.address, found)

    def let_in(self, limit: AddressLimit, execution_id: UUID) -> None:
        """Counts an execution that is about to be stored.

        Raises:
            QueueFull: as many of the address wait as may.
        """
        with self._lock:
            found = self._addresses.get(limit.address)
            if found is None:
                found = self._addresses[limit.address] = _Address()
            else:
                self._addresses.move_to_end(limit.address)
            if found.waiting >= limit.most:
                raise QueueFull(
                    "As many tasks wait that anonymous callers at this address started as"
                    f' limits["anonymous_pending_per_address"] allows: {limit.most}. Log in, or try'
                    " again once some have run."
                )
            found.entering.add(execution_id)

    def let_out(self, limit: AddressLimit, execution_id: UUID, *, stored: bool) -> None:
        """Ends what `let_in` began. `stored`: there may be a row now."""
        with self._lock:
            found = self._addresses.get(limit.address)
            if found is None or execution_id not in found.entering:
                return
            found.entering.discard(execution_id)
            if stored:
                found.unfinished.add(execution_id)
                self._ids += 1
                self._forget(limit.address)
            else:
                self._drop_if_empty(limit.address, found)

    def _drop_if_empty(self, address: str, found: _Address) -> None:
        if not found.entering and not found.unfinished:
            del self._addresses[address]

    def _forget(self, latest: str) -> None:
        while self._ids > MAX_IDS and (oldest := next(iter(self._addresses))) != latest:
            self._ids -= len(self._addresses.pop(oldest).unfinished)
