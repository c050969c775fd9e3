"""Slots: counts attempts against this process's limits, and plans the next claim. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from uuid import UUID

from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.runtime.claims.plan import NO_LIMIT, Line, Plan


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
        self._total_free = NO_LIMIT if total is None else total
        self._limits = {limits.name: limits for limits in queues}
        self._queue_free = {limits.name: _free_of(limits) for limits in queues}
        self._turn = 0
        # Rows that this process has left waiting since the last claim, by line.
        self._expected: Counter[Line] = Counter()
        # Lines in which others may have left some; at the start, all of them.
        self._unknown = {line for queue in self._limits for line in _lines(queue)}
        # The expected rows that the claim in flight was planned with, and its unknown lines.
        self._planned: Counter[Line] = Counter()
        self._looked_at: set[Line] = set()
        # Lines in which the last claim has left some waiting: owners take turns there.
        self._crowded: set[Line] = set()
        # Queues of which nothing may start: paused ones, and those whose rate has no token now.
        self.paused: frozenset[str] = frozenset()
        self.resting: frozenset[str] = frozenset()
        self.rates = {it.name: it.rate for it in queues if it.rate is not None}
        self.running = 0
        self.leaked = 0

    def know(self, queue: str) -> None:
        """Serves a queue that no setting or declaration names: rows of it are in the ledger."""
        if queue not in self._limits:
            self._limits[queue] = QueueLimits(queue)
            self._queue_free[queue] = NO_LIMIT
            self._unknown.update(_lines(queue))

    def hold(self, paused: frozenset[str]) -> None:
        """Lets nothing of these queues start from now on, and everything of the others."""
        resumed = {line for queue in self.paused - paused for line in _lines(queue)}
        self._unknown |= {line for line in resumed if line[0] in self._limits}
        self.paused = paused
        self._stop_counting()

    def rest(self, queue: str) -> None:
        """Lets nothing of the queue start until `refill`: its rate has no token."""
        self.resting |= {queue}
        self._stop_counting()

    def refill(self, queue: str) -> None:
        """Ends a rest: there may be a token."""
        self.resting -= {queue}

    @property
    def stopped(self) -> frozenset[str]:
        """Returns the queues of which nothing may start."""
        return self.paused | self.resting

    def _stop_counting(self) -> None:
        """How many wait in a stopped queue is not counted: a claim after the end will see."""
        counted = {line for line in self._expected if self._is_stopped(line[0])}
        for line in counted:
            del self._expected[line]
        self._unknown |= counted

    def _is_stopped(self, queue: str) -> bool:
        return queue in self.paused or queue in self.resting

    def queues(self) -> list[str]:
        """Returns the known queues."""
        return list(self._limits)

    def by_priority(self, queues: Iterable[str]) -> list[str]:
        """Returns the same queues, the highest priority first."""
        return sorted(queues, key=lambda name: -self._limits[name].priority)

    def room(self, queue: str, in_thread: bool) -> int:
        """Returns how many more of the queue may start now."""
        return min(self._free[in_thread], self._total_free, self.queue_room(queue))

    def room_beside(self, in_thread: bool, waiting: int, waiting_in_all: int) -> int:
        """Returns how many may start if each body that only waits lends its slot.

        So no more bodies are at work than the limits allow.

        Args:
            in_thread: the kind of the body that is to start.
            waiting: bodies of that kind that wait for another task.
            waiting_in_all: those of both kinds.
        """
        return min(self._free[in_thread] + waiting, self._total_free + waiting_in_all)

    @property
    def total_reached(self) -> bool:
        """Returns whether nothing more of either kind may start."""
        return self._total_free <= 0

    def queue_room(self, queue: str) -> int:
        """Returns how many more may start now by the limit of the queue alone: 0 if stopped."""
        if self._is_stopped(queue):
            return 0
        return self._queue_free.get(queue, NO_LIMIT)

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
        if self._is_stopped(queue):
            self._unknown.add((queue, in_thread))
        else:
            self._expected[queue, in_thread] += 1

    def expect_all(self) -> None:
        """Rows may be waiting anywhere: another process may have left some, or one is due."""
        self._unknown.update(line for queue in self._limits for line in _lines(queue))

    @property
    def crowded(self) -> bool:
        """Returns whether rows are known to wait that may run and have no slot.

        The last claim has left them, or they came while it was made.
        """
        came = {line for line, count in self._expected.items() if self.room(*line) < count}
        return any(not self._is_stopped(queue) for queue, _ in self._crowded | came)

    @property
    def any_full(self) -> bool:
        """Returns whether there is a queue of which nothing more may start, and is not stopped."""
        lines = (line for queue in self._limits.keys() - self.stopped for line in _lines(queue))
        return any(self.room(*line) <= 0 for line in lines)

    @property
    def any_room(self) -> bool:
        """Returns whether an execution of some queue could start now."""
        return self._total_free > 0 and any(it > 0 for it in self._free.values())

    def expect_in(self, queue: str) -> None:
        """Rows may be waiting in that queue."""
        self._unknown.update(_lines(queue))

    @property
    def worth_a_claim(self) -> bool:
        """True if a row may be waiting that could start now."""
        if not self._unknown and not self._expected:
            return False
        return any(self.room(*line) > 0 for line in self._unknown | self._expected.keys())

    def may_start_at_once(self, queue: str, in_thread: bool) -> bool:
        """Returns whether a new execution may start at once, ahead of no other one.

        Everything that is known to be waiting must find a slot besides. A queue that is full by its
        own limit is no line to wait in, except for its own. Of a queue with a rate only a claim
        may start something, as it takes a token.
        """
        if queue in self.rates:
            return False
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
        crashes: int = NO_LIMIT,
        suspects: bool = False,
        running: Callable[[str], dict[str, int]] = lambda queue: {},
    ) -> Plan:
        """Returns the next claim. Queues of one priority take turns at being first.

        Args:
            crashes: executions that were lost with so many processes are suspects.
            suspects: one of those may start, where the claim looks everywhere.
            running: returns how many of each owner run of a queue, "" for none. Called for lines
                in which more wait than may start.
        """
        self._turn += 1
        held = {line for line in self._unknown if self._is_stopped(line[0])}
        names = sorted(self._limits.keys() - self.stopped)
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
            rates=self.rates,
        )
        self._planned, self._expected = self._expected, Counter()
        self._looked_at, self._unknown = self._unknown - held, held
        return plan

    def learn(self, plan: Plan | None) -> None:
        """Takes over what a claim has found out about waiting rows; None if it failed."""
        left = set(self._looked_at | self._planned.keys())
        if plan is not None:
            left -= plan.emptied
            resting = {line for line in self._crowded if line[0] in self.resting}
            self._crowded = plan.crowded | resting
        # How many are left in a line that was not emptied is unknown.
        self._unknown |= left
        self._planned, self._looked_at = Counter(), set()


def _free_of(limits: QueueLimits) -> int:
    return NO_LIMIT if limits.concurrency is None else limits.concurrency
