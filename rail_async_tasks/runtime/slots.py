"""Slots: how much may run at once in this process, and what the next claim may ask for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from uuid import UUID

import msgspec

from rail_async_tasks.ledger.port import Lane


class QueueLimits(msgspec.Struct, frozen=True):
    """A queue's place among the others (higher first), and how many of it may run at once here."""

    name: str
    priority: int = 0
    concurrency: int | None = None


_NO_LIMIT = 2**31 - 1


class Slots:
    """Counts what runs. Coroutines and threads have limits of their own, and each queue may.

    Args:
        coroutines: `async def` tasks at once.
        threads: `def` tasks at once.
        total: both together, or None.
        queues: the queues that are known; `know` adds others.
    """

    def __init__(
        self, coroutines: int, threads: int, total: int | None, queues: Sequence[QueueLimits]
    ) -> None:
        self._free = {False: coroutines, True: threads}
        self._total_free = _NO_LIMIT if total is None else total
        self._limits = {limits.name: limits for limits in queues}
        self._queue_free = {limits.name: _free_of(limits) for limits in queues}
        self._turn = 0
        # Rows that this process has left waiting since the last claim, by queue.
        self._expected: Counter[str] = Counter()
        # Queues in which others may have left some. At the start nobody has looked yet.
        self._unknown = set(self._limits)
        # The same, as the claim in flight set out with it.
        self._planned: Counter[str] = Counter()
        self._looked_at: set[str] = set()
        self.running = 0
        self.leaked = 0

    def know(self, queue: str) -> None:
        """Serves a queue that no setting or declaration names: rows of it are in the ledger."""
        if queue not in self._limits:
            self._limits[queue] = QueueLimits(queue)
            self._queue_free[queue] = _NO_LIMIT
            self._unknown.add(queue)

    def room(self, queue: str, in_thread: bool) -> int:
        """How many more of the queue may start now."""
        free = min(self._free[in_thread], self._total_free)
        return min(free, self._queue_free.get(queue, _NO_LIMIT))

    def take(self, queue: str, in_thread: bool) -> None:
        self.know(queue)
        self._free[in_thread] -= 1
        self._total_free -= 1
        self._queue_free[queue] -= 1
        self.running += 1

    def release(self, queue: str, in_thread: bool) -> None:
        self._free[in_thread] += 1
        self._total_free += 1
        self._queue_free[queue] += 1
        self.running -= 1

    # --- what may be waiting ---------------------------------------------------------------------

    def expect(self, queue: str) -> None:
        """One more row of the queue is waiting."""
        self.know(queue)
        self._expected[queue] += 1

    def expect_all(self) -> None:
        """Rows may be waiting anywhere: another process may have left some, or one is due."""
        self._unknown.update(self._limits)

    @property
    def worth_a_claim(self) -> bool:
        """Whether a row may be waiting that could start now."""
        return any(self._has_room(queue) for queue in self._unknown | self._expected.keys())

    def _has_room(self, queue: str) -> bool:
        return self.room(queue, False) > 0 or self.room(queue, True) > 0

    def may_start_at_once(self, queue: str, in_thread: bool) -> bool:
        """Whether a new execution may start without waiting in line: it takes nobody's place.

        Everything that is known to be waiting must find a slot besides. A queue that is full by its
        own limit is no line to wait in, except for its own.
        """
        unknown = self._unknown | self._looked_at
        if queue in unknown or any(self._has_room(other) for other in unknown):
            return False
        return self.room(queue, in_thread) > self._planned.total() + self._expected.total()

    def plan(
        self, runtime_id: UUID, coroutine_names: Collection[str], thread_names: Collection[str]
    ) -> Plan:
        """The next claim. Queues of one priority take turns at being first."""
        self._turn += 1
        names = sorted(self._limits)
        turn = self._turn % len(names) if names else 0
        order = sorted(names[turn:] + names[:turn], key=lambda name: -self._limits[name].priority)
        wanted = {
            name: self._queue_free[name]
            if name in self._unknown
            else min(self._queue_free[name], self._expected[name])
            for name in order
        }
        plan = Plan(
            runtime_id=runtime_id,
            queues=[
                (name, wanted[name], name not in self._unknown)
                for name in order
                if wanted[name] > 0
            ],
            free=dict(self._free),
            total=self._total_free,
            names={False: tuple(coroutine_names), True: tuple(thread_names)},
        )
        self._planned, self._expected = self._expected, Counter()
        self._looked_at, self._unknown = self._unknown, set()
        return plan

    def learn(self, plan: Plan | None) -> None:
        """Takes over what a claim has found out about who is waiting; None if it failed."""
        left = set(self._looked_at | self._planned.keys())
        if plan is not None:
            left -= plan.emptied
        # How many are left of a queue that was not emptied, nobody knows.
        self._unknown |= left
        self._planned, self._looked_at = Counter(), set()


def _free_of(limits: QueueLimits) -> int:
    return _NO_LIMIT if limits.concurrency is None else limits.concurrency


class Plan:
    """The lanes of one claim, sized as it goes. See `ledger.port.ClaimPlan`.

    `queues` are names, how many rows are wanted, and whether no more than those are waiting.

    `emptied` holds, after the claim, the queues that were looked at and had no row left over.
    """

    def __init__(
        self,
        *,
        runtime_id: UUID,
        queues: Sequence[tuple[str, int, bool]],
        free: dict[bool, int],
        total: int,
        names: dict[bool, tuple[str, ...]],
    ) -> None:
        self.runtime_id = runtime_id
        self.emptied: set[str] = set()
        self._queues = queues
        self._free = free
        self._total = total
        self._names = names
        self._count = 0

    def lanes(self) -> Iterator[Lane]:
        for queue, wanted, exact in self._queues:
            left_over = False
            for in_thread, names in self._names.items():
                if not names:
                    continue
                limit = min(wanted, self._free[in_thread], self._total)
                if limit <= 0:
                    # Nobody has looked: there may be some, unless all that were wanted are found.
                    left_over = left_over or wanted > 0
                    continue
                self._count = 0
                yield Lane(queue, names, limit)
                wanted -= self._count
                self._free[in_thread] -= self._count
                self._total -= self._count
                # A lane that is full may have left some, unless it was told how many there are.
                left_over = left_over or (self._count == limit and (wanted > 0 or not exact))
            if not left_over:
                self.emptied.add(queue)

    def took(self, lane: Lane, count: int) -> None:
        self._count = count
