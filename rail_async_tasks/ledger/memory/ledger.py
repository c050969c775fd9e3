"""The ledger in this process's memory: the parts put together.

It holds every rule of the port but durability. A lock makes each change one compare-and-set,
in any thread; no call blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from rail_async_tasks.ledger.memory.attempts import MemoryAttempts, MemoryCancels
from rail_async_tasks.ledger.memory.claims import MemoryClaims
from rail_async_tasks.ledger.memory.queue_states import MemoryQueueStates
from rail_async_tasks.ledger.memory.reads import MemoryCounts, MemoryReads
from rail_async_tasks.ledger.memory.store import Store, utc_now
from rail_async_tasks.ledger.memory.upkeep import MemoryClock, MemoryDeletions, MemorySchedules
from rail_async_tasks.ledger.records import OnFault


class MemoryLedger(
    MemoryClaims,
    MemoryAttempts,
    MemoryCancels,
    MemoryReads,
    MemoryCounts,
    MemoryClock,
    MemorySchedules,
    MemoryDeletions,
    MemoryQueueStates,
):
    """Executions in memory. See `port.Ledger`."""

    congested = False

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(Store(now))

    def __len__(self) -> int:
        return len(self.store.rows)

    def check_tables(self) -> None: ...

    def start(self, on_fault: OnFault | None = None) -> None: ...

    async def stop(self) -> None: ...

    async def relieved(self) -> None: ...

    # --- ports that only a ledger with several processes, or threads that write, has --------------

    def writers(self) -> None:
        return None

    def dispatches(self) -> None:
        return None

    def leases(self) -> None:
        return None

    def recoveries(self) -> None:
        return None

    def callbacks(self) -> None:
        return None

    def notices(self) -> None:
        return None

    def notify_here(self) -> None:
        """Does nothing: there are no other processes."""

    def audit_log(self) -> None:
        return None

    def rollups(self) -> None:
        return None
