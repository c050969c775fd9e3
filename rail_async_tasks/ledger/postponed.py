"""Operations that wait for another transaction's lock, outside the writer's thread.

A session never waits for a lock. It answers `AGAIN`, and the operation is offered again after a
delay that doubles; meanwhile the thread writes all others. Among operations with the same unique
key, only the first is offered; the others wait behind it.

Runs on the writer's event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from rail_async_tasks.ledger.locks import FIRST_DELAY, delay_after
from rail_async_tasks.ledger.records import RowLocked

# An operation with a key may cost the writer a transaction of its own per offer: milliseconds.
# Each waiting one adds so many seconds to the delay of all: a fifth of the thread's time.
SHARE = 0.01


class _Waiting(msgspec.Struct, eq=False):
    operation: Any
    offers: int = 0
    timer: asyncio.TimerHandle | None = None
    behind: list[Any] = msgspec.field(default_factory=list)


class Postponed:
    """Offers operations again, with a delay that doubles.

    Args:
        offer: hands an operation to the writer's thread.
        report: reports operations as failed whose time is over.
    """

    def __init__(
        self,
        offer: Callable[[Any], None],
        report: Callable[[list[tuple[Any, Any]]], None],
    ) -> None:
        self._offer = offer
        self._report = report
        self._waiting: dict[int, _Waiting] = {}  # by the operation's `id()`
        self._by_key: dict[str, _Waiting] = {}
        self._keyed = 0
        self._in_doubt: set[int] = set()
        self._behind = 0
        self._ending = False
        self._abandoned = False

    def __len__(self) -> int:
        """Returns the number of waiting operations; they are no backlog of the writer."""
        return len(self._waiting) + self._behind

    @property
    def active(self) -> bool:
        """Returns whether `reported` must be called for each operation that is over."""
        return bool(self._waiting or self._in_doubt)

    def joins(self, operation: Any) -> bool:
        """Returns whether the operation waits behind another one with its unique key, unoffered."""
        first = self._by_key.get(operation.key) if operation.key is not None else None
        if first is None or first.operation is operation:
            return False
        first.behind.append(operation)
        self._behind += 1
        return True

    def add(self, operations: Sequence[Any], *, certain: bool) -> None:
        """Postpones operations to which the session has answered `AGAIN`.

        `certain`: no earlier COMMIT is in doubt, so that they may be reported as failed.
        """
        overdue = []
        for operation in operations:
            if not certain:
                self._in_doubt.add(id(operation))
            if self._is_overdue(operation):
                overdue.append((operation, RowLocked()))
            elif not self.joins(operation):
                self._postpone(operation)
        if overdue:
            self._report(overdue)

    def end(self) -> None:
        """Offers all once more, then fails the operations with a limit before it is reached."""
        self._ending = True
        for waiting in self._waiting.values():
            if waiting.timer is not None:
                waiting.timer.cancel()
                waiting.timer = None
                self._offer(waiting.operation)

    def abandon(self) -> None:
        """Reports all operations as failed, those with no limit too; later ones at once."""
        self._ending = self._abandoned = True
        overdue = []
        for waiting in self._waiting.values():
            if waiting.timer is not None:
                waiting.timer.cancel()
                overdue.append((waiting.operation, RowLocked()))
        if overdue:
            self._report(overdue)

    def drop(self) -> list[Any]:
        """Forgets all operations; returns the ones outside the writer's thread."""
        dropped: list[Any] = []
        for waiting in self._waiting.values():
            if waiting.timer is not None:
                waiting.timer.cancel()
                dropped.append(waiting.operation)
            dropped += waiting.behind
        self._waiting.clear()
        self._by_key.clear()
        self._in_doubt.clear()
        self._keyed = self._behind = 0
        return dropped

    def reported(self, operation: Any, *, failed: bool) -> None:
        """Offers the operations behind one that is over."""
        self._in_doubt.discard(id(operation))
        waiting = self._waiting.pop(id(operation), None)
        if waiting is None:
            return
        if operation.key is None:
            return
        self._keyed -= 1
        del self._by_key[operation.key]
        self._behind -= len(waiting.behind)
        # After a failure the lock is still there: one is enough to find out.
        count = 1 if failed else len(waiting.behind)
        for following in waiting.behind[:count]:
            if failed:
                first = self._enter(following)
                first.behind = waiting.behind[1:]
                self._behind += len(first.behind)
            self._offer(following)

    def _is_overdue(self, operation: Any) -> bool:
        if self._abandoned:
            return True
        limit = operation.give_up_at
        if limit is None or id(operation) in self._in_doubt:
            return False
        return self._ending or bool(limit <= time.monotonic())

    def _enter(self, operation: Any) -> _Waiting:
        waiting = self._waiting[id(operation)] = _Waiting(operation)
        if operation.key is not None:
            self._keyed += 1
            self._by_key[operation.key] = waiting
        return waiting

    def _postpone(self, operation: Any) -> None:
        waiting = self._waiting.get(id(operation)) or self._enter(operation)
        waiting.offers += 1
        delay = delay_after(waiting.offers)
        if operation.key is not None:
            delay = max(delay, SHARE * self._keyed)
        if operation.give_up_at is not None:
            delay = min(delay, max(operation.give_up_at - time.monotonic(), FIRST_DELAY))
        loop = asyncio.get_running_loop()
        waiting.timer = loop.call_later(delay, self._offer_again, waiting)

    def _offer_again(self, waiting: _Waiting) -> None:
        waiting.timer = None
        self._offer(waiting.operation)
