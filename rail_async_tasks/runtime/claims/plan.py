"""The plan of one claim: which parts it has, and what it has found out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias
from uuid import UUID

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.ledger.records import QueueClaim

NO_LIMIT = 2**31 - 1

# The rows of a queue whose body is a coroutine (False), or those whose body takes a thread (True).
Line: TypeAlias = tuple[str, bool]


class Plan:
    """The parts of one claim, sized as it goes. See `ledger.port.ClaimPlan`.

    After the claim `emptied` holds the lines that have no row left over, and `crowded` the lines
    that have more rows than fit. `resting` holds the queues whose rate has no token left, and the
    seconds until it has one.

    Args:
        runtime_id: claims under this id.
        wanted: how many rows wait in each line; None where that is unknown.
        free: free slots for coroutines (False) and for threads (True).
        queue_free: free slots of each queue, by its own limit.
        total: free slots in all.
        names: the tasks that are known here, coroutines (False) and threads (True).
        crashes: executions that were lost with so many processes are suspects.
        suspects: one suspect may be claimed.
        running: how many attempts of each owner run here, "" for none, by crowded line.
        rates: the rates of the queues that have one.
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
        crashes: int = NO_LIMIT,
        suspects: bool = False,
        running: dict[Line, dict[str, int]] | None = None,
        rates: Mapping[str, RateLimit] = MappingProxyType({}),
    ) -> None:
        self.runtime_id = runtime_id
        self.emptied: set[Line] = set()
        self.crowded: set[Line] = set()
        self.resting: dict[str, float] = {}
        self._rates = rates
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
        """Yields the next part; `took` must be called before the next is asked for."""
        for line, wanted in self._wanted.items():
            queue, in_thread = line
            names = self._names[in_thread]
            if not names:
                self.emptied.add(line)
                continue
            room = min(self._queue_free[queue], self._free[in_thread], self._total)
            limit = room if wanted is None else min(room, wanted)
            if limit <= 0 or queue in self.resting:
                if wanted and room <= 0:
                    self.crowded.add(line)
                continue
            rate = self._rates.get(queue)
            if self._suspects and wanted is None:
                yield from self._part(
                    line, QueueClaim(queue, names, 1, self._crashes, suspect=True, rate=rate)
                )
                if self._count:
                    self._suspects = False
                    limit -= 1
                    if not limit:
                        continue
                if queue in self.resting:
                    continue
            running = self._running.get(line)
            yield from self._part(
                line, QueueClaim(queue, names, limit, self._crashes, running=running, rate=rate)
            )
            if queue in self.resting and self._count < limit:
                self.crowded.add(line)  # as far as is known: it had more than there were tokens
                continue
            # A full part may leave rows behind, unless it was known how many wait and all were
            # taken. A fair part may leave rows of a busy owner behind even if it is not full.
            if limit == wanted or self._count < (limit if running is None else 1):
                self.emptied.add(line)
            elif self._count == limit:
                self.crowded.add(line)

    def took(self, claim: QueueClaim, count: int) -> None:
        """Records how many rows a part has claimed."""
        self._count = count

    def rests(self, claim: QueueClaim, seconds: float) -> None:
        """Records that the queue's rate has no token left, but in so many seconds."""
        self.resting[claim.queue] = seconds

    def _part(self, line: Line, claim: QueueClaim) -> Iterator[QueueClaim]:
        queue, in_thread = line
        self._count = 0
        yield claim
        self._queue_free[queue] -= self._count
        self._free[in_thread] -= self._count
        self._total -= self._count
