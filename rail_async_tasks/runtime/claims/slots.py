"""Slots: how much may run at once in this process, and what the next claim may ask for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeAlias
from uuid import UUID

from rail_async_tasks.ledger.records import QueueClaim
from rail_async_tasks.queue_limits import QueueLimits

_NO_LIMIT = 2**31 - 1

# Where rows wait: those of a queue whose body is a coroutine, or those whose body takes a thread.
Line: TypeAlias = tuple[str, bool]


def _lines(queue: str) -> tuple[Line, Line]:
    return (queue, False), (queue, True)


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
        # Rows that this process has left waiting since the last claim, by line.
        self._expected: Counter[Line] = Counter()
        # Lines in which others may have left some. At the start nobody has looked yet.
        self._unknown = {line for queue in self._limits for line in _lines(queue)}
        # The same, as the claim in flight set out with it.
        self._planned: Counter[Line] = Counter()
        self._looked_at: set[Line] = set()
        # Lines of which the last claim has left some waiting: owners take turns there.
        self._crowded: set[Line] = set()
        self.running = 0
        self.leaked = 0

    def know(self, queue: str) -> None:
        """Serves a queue that no setting or declaration names: rows of it are in the ledger."""
        if queue not in self._limits:
            self._limits[queue] = QueueLimits(queue)
            self._queue_free[queue] = _NO_LIMIT
            self._unknown.update(_lines(queue))

    def queues(self) -> list[str]:
        """Those that are known."""
        return list(self._limits)

    def by_priority(self, queues: Iterable[str]) -> list[str]:
        """The same queues, what matters most first."""
        return sorted(queues, key=lambda name: -self._limits[name].priority)

    def room(self, queue: str, in_thread: bool) -> int:
        """How many more of the queue may start now."""
        return min(self._free[in_thread], self._total_free, self.queue_room(queue))

    def room_beside(self, in_thread: bool, waiting: int, waiting_in_all: int) -> int:
        """How many may start although no slot is free: one for each body that only waits.

        So no more bodies are at work than the limits allow.

        Args:
            in_thread: the kind of the body that is to start.
            waiting: bodies of that kind that wait for another task.
            waiting_in_all: those of both kinds.
        """
        return min(self._free[in_thread] + waiting, self._total_free + waiting_in_all)

    def queue_room(self, queue: str) -> int:
        """How many more of the queue may start now by the limit of the queue alone."""
        return self._queue_free.get(queue, _NO_LIMIT)

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

    # --- what may be waiting ----------------------------------------------------------------------

    def expect(self, queue: str, in_thread: bool) -> None:
        """One more row of the queue is waiting."""
        self.know(queue)
        self._expected[queue, in_thread] += 1

    def expect_all(self) -> None:
        """Rows may be waiting anywhere: another process may have left some, or one is due."""
        self._unknown.update(line for queue in self._limits for line in _lines(queue))

    @property
    def worth_a_claim(self) -> bool:
        """Whether a row may be waiting that could start now."""
        if not self._unknown and not self._expected:
            return False
        return any(self.room(*line) > 0 for line in self._unknown | self._expected.keys())

    def may_start_at_once(self, queue: str, in_thread: bool) -> bool:
        """Whether a new execution may start without waiting in line: it takes nobody's place.

        Everything that is known to be waiting must find a slot besides. A queue that is full by its
        own limit is no line to wait in, except for its own.
        """
        if self._unknown or self._looked_at:
            unknown = self._unknown | self._looked_at
            if (queue, in_thread) in unknown or any(self.room(*line) > 0 for line in unknown):
                return False
        return self.room(queue, in_thread) > self._planned.total() + self._expected.total()

    def plan(
        self,
        runtime_id: UUID,
        coroutine_names: Collection[str],
        thread_names: Collection[str],
        *,
        crashes: int = _NO_LIMIT,
        suspects: bool = False,
        running: Callable[[str], dict[str, int]] = lambda queue: {},
    ) -> Plan:
        """The next claim. Queues of one priority take turns at being first.

        Args:
            crashes: executions that were lost with so many processes are suspects.
            suspects: whether one of those may start, where the claim looks everywhere.
            running: how many of each owner run of a queue, "" for nobody; for a line in which
                more wait than may start.
        """
        self._turn += 1
        names = sorted(self._limits)
        turn = self._turn % len(names) if names else 0
        order = sorted(names[turn:] + names[:turn], key=lambda name: -self._limits[name].priority)
        plan = Plan(
            runtime_id=runtime_id,
            wanted={
                line: None if line in self._unknown else self._expected[line]
                for queue in order
                for line in _lines(queue)
                if line in self._unknown or line in self._expected
            },
            free=dict(self._free),
            queue_free=dict(self._queue_free),
            total=self._total_free,
            names={False: tuple(coroutine_names), True: tuple(thread_names)},
            crashes=crashes,
            suspects=suspects,
            running={line: running(line[0]) for line in self._crowded},
        )
        self._planned, self._expected = self._expected, Counter()
        self._looked_at, self._unknown = self._unknown, set()
        return plan

    def learn(self, plan: Plan | None) -> None:
        """Takes over what a claim has found out about who is waiting; None if it failed."""
        left = set(self._looked_at | self._planned.keys())
        if plan is not None:
            left -= plan.emptied
            self._crowded = plan.crowded
        # How many are left in a line that was not emptied, nobody knows.
        self._unknown |= left
        self._planned, self._looked_at = Counter(), set()


def _free_of(limits: QueueLimits) -> int:
    return _NO_LIMIT if limits.concurrency is None else limits.concurrency


class Plan:
    """The lanes of one claim, sized as it goes. See `ledger.port.ClaimPlan`.

    `wanted` is how many rows wait in each line, None where nobody knows. `emptied` holds, after the
    claim, the lines that have no row left over, and `crowded` those that have more than fit.
    """

    def __init__(
        self,
        *,
        runtime_id: UUID,
        wanted: dict[Line, int | None],
        free: dict[bool, int],
        queue_free: dict[str, int],
        total: int,
        names: dict[bool, tuple[str, ...]],
        crashes: int = _NO_LIMIT,
        suspects: bool = False,
        running: dict[Line, dict[str, int]] | None = None,
    ) -> None:
        self.runtime_id = runtime_id
        self.emptied: set[Line] = set()
        self.crowded: set[Line] = set()
        self._running = running or {}
        self._wanted = wanted
        self._free = free
        self._queue_free = queue_free
        self._total = total
        self._names = names
        self._crashes = crashes
        self._suspects = suspects
        self._count = 0

    def claims(self) -> Iterator[QueueClaim]:
        for line, wanted in self._wanted.items():
            queue, in_thread = line
            names = self._names[in_thread]
            if not names:
                self.emptied.add(line)
                continue
            room = min(self._queue_free[queue], self._free[in_thread], self._total)
            limit = room if wanted is None else min(room, wanted)
            if limit <= 0:
                continue
            if self._suspects and wanted is None:
                yield from self._lane(
                    line, QueueClaim(queue, names, 1, self._crashes, suspect=True)
                )
                if self._count:
                    self._suspects = False
                    limit -= 1
                    if not limit:
                        continue
            running = self._running.get(line)
            yield from self._lane(
                line, QueueClaim(queue, names, limit, self._crashes, running=running)
            )
            # A lane that came back full may have left some, unless all that wait are in it. One in
            # which owners took turns may have left some of an owner who has many.
            if limit == wanted or self._count < (limit if running is None else 1):
                self.emptied.add(line)
            elif self._count == limit:
                self.crowded.add(line)

    def _lane(self, line: Line, lane: QueueClaim) -> Iterator[QueueClaim]:
        queue, in_thread = line
        self._count = 0
        yield lane
        self._queue_free[queue] -= self._count
        self._free[in_thread] -= self._count
        self._total -= self._count

    def took(self, lane: QueueClaim, count: int) -> None:
        self._count = count
