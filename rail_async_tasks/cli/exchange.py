"""Events to and from the processes of the project, for a command that has no runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from asgiref.sync import sync_to_async

from rail_async_tasks.bus.memory import MemoryBus
from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process
from rail_async_tasks.runtime.announce import announcer_for
from rail_async_tasks.snapshot import TaskSnapshot


class Reads:
    """See `ledger.port.LoopReads`; the ledger of this process, read in a thread."""

    async def reread(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        return await sync_to_async(process.ledger().get_many)(execution_ids)

    async def changed_lately(
        self, owner_ids: Collection[str], seconds: float
    ) -> list[TaskSnapshot]:
        return []  # no owner is watched here

    async def queues(self) -> Sequence[str]:
        return ()


@asynccontextmanager
async def exchanging() -> AsyncIterator[Bus]:
    """Yields the bus of this process while it exchanges events with the others."""
    bus = process.bus()
    if process.current() is not None:  # inside a server: its runtime has started it
        yield bus
        return
    bus.start(Reads(), lambda execution_id: None, lambda: None)
    try:
        yield bus
    finally:
        await bus.stop()


def crosses_processes() -> bool:
    """Returns whether the bus reaches other processes than this one."""
    return type(process.bus()) is not MemoryBus


async def publish(snapshots: Sequence[TaskSnapshot]) -> None:
    """Publishes changed tasks to the other processes, which would else notice seconds later."""
    if not announcer_for(get_settings(), process.bus()).emits or not crosses_processes():
        return
    async with exchanging() as bus:
        for snapshot in snapshots:
            bus.publish(snapshot)


async def announce_queues() -> None:
    """Has the other processes look at once which queues are paused."""
    if crosses_processes():
        async with exchanging() as bus:
            bus.announce_queues()
