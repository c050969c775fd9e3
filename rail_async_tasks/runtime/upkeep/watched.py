"""Re-reads watched rows, for changes whose announcement was lost or never made."""

from __future__ import annotations

from collections.abc import Callable, Collection
from uuid import UUID

from rail_async_tasks.bus.port import Bus
from rail_async_tasks.ledger.port import LoopReads
from rail_async_tasks.runtime.upkeep.clock import boottime
from rail_async_tasks.snapshot import owner_of, task_id_of

# By how much (seconds) two reads of an owner's changes overlap: a change shows only with its
# commit, and a read may wait for its turn. A watcher sees no change twice.
OVERLAP_SECONDS = 5.0


class WatchedReader:
    """Delivers changes to watchers in this process. One query for all of them.

    Args:
        running: ids of the executions that run here.
        emits: changes are published. Then the events of `running` are newer than their rows.
        clock: returns seconds that pass also while the machine sleeps: others work meanwhile.
    """

    def __init__(
        self,
        *,
        reads: LoopReads,
        bus: Bus,
        running: Collection[UUID],
        emits: bool,
        clock: Callable[[], float] = boottime,
        overlap: float = OVERLAP_SECONDS,
    ) -> None:
        self._reads = reads
        self._bus = bus
        self._running = running
        self._emits = emits
        self._clock = clock
        self._overlap = overlap
        self._owners_read_at = clock()

    async def read_tasks(self) -> None:
        """Delivers the watched executions as they stand; ends the watches of deleted ones."""
        watched = {task_id_of(topic) for topic in self._bus.watched()}
        wanted = [it for it in watched if it is not None and not self._has_newer(it)]
        if not wanted:
            return
        found = await self._reads.reread(wanted)
        for snapshot in found:
            self._bus.deliver(snapshot)
        for gone in set(wanted) - {snapshot.id for snapshot in found}:
            self._bus.end(gone)

    async def read_owners(self) -> None:
        """Delivers recent changes of the owners whose tasks are watched."""
        began = self._clock()
        owners = {owner_of(topic) for topic in self._bus.watched()}
        wanted = [owner_id for owner_id in owners if owner_id is not None]
        if wanted:
            seconds = began - self._owners_read_at + self._overlap
            for snapshot in await self._reads.changed_lately(wanted, seconds):
                self._bus.deliver(snapshot)
        self._owners_read_at = began

    def _has_newer(self, execution_id: UUID) -> bool:
        return self._emits and execution_id in self._running
