"""Turns events of other processes into snapshots: progress from events, states from rows."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

from rail_async_tasks.bus.failures import bus_backoff
from rail_async_tasks.bus.wire import Event, applied
from rail_async_tasks.ledger.port import LoopReads
from rail_async_tasks.snapshot import TaskSnapshot, owner_of, task_id_of
from rail_async_tasks.text import describe

# Executions of other processes whose latest state is remembered.
REMEMBERED = 10_000
# Rows that are read at once, and that may wait for it: the reconciler re-reads what is more.
PAGE = 500
MOST_WANTED = 10_000
# A new watcher of an owner gets the changes of so many seconds before it joined, by the clock of
# the database.
LOOK_BACK = 5.0
# Between two reads, in seconds.
PAUSE = 0.01


class Follower:
    """Runs on one event loop. Believes the progress of an event; reads the row for all else."""

    def __init__(self, deliver: Callable[[TaskSnapshot], None]) -> None:
        self._deliver = deliver
        self._known: OrderedDict[UUID, TaskSnapshot] = OrderedDict()
        self._wanted: dict[UUID, Event | None] = {}
        self._owners: set[str] = set()
        self._wake = asyncio.Event()
        self.read_count = 0

    def received(self, event: Event) -> None:
        """Handles an event of another process."""
        known = self._known.get(event.id)
        if known is not None:
            if event.version <= known.version:
                return
            if (snapshot := applied(known, event)) is not None:
                self._keep(snapshot)
                return
        wanted = self._wanted.get(event.id)
        if wanted is None or wanted.version < event.version:
            self._want(event.id, event)

    def joined(self, topic: str) -> None:
        """Reads the changes just before the subscription to a topic began."""
        execution_id = task_id_of(topic)
        if execution_id is not None:
            self._want(execution_id, self._wanted.get(execution_id))
        elif (owner_id := owner_of(topic)) is not None:
            self._owners.add(owner_id)
            self._wake.set()

    def _want(self, execution_id: UUID, event: Event | None) -> None:
        if len(self._wanted) < MOST_WANTED or execution_id in self._wanted:
            self._wanted[execution_id] = event
            self._wake.set()

    def _keep(self, snapshot: TaskSnapshot) -> None:
        if snapshot.is_final:
            self._known.pop(snapshot.id, None)
        else:
            self._known[snapshot.id] = snapshot
            self._known.move_to_end(snapshot.id)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._deliver(snapshot)

    async def run(self, ledger: LoopReads) -> None:
        """Reads the wanted rows, one query at a time, until it is cancelled."""
        backoff = bus_backoff("Reading changed rows failed")
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted or self._owners:
                try:
                    await self._read(ledger)
                    backoff.recovered()
                except Exception as error:  # noqa: BLE001 (whatever the driver raises)
                    await asyncio.sleep(backoff.failed(describe(error)))
                await asyncio.sleep(PAUSE)

    async def _read(self, ledger: LoopReads) -> None:
        ids = list(self._wanted)[:PAGE]
        events = {execution_id: self._wanted.pop(execution_id) for execution_id in ids}
        owners, self._owners = self._owners, set()
        try:
            recent = await ledger.changed_lately(list(owners), LOOK_BACK) if owners else ()
            rows = await ledger.reread(ids) if ids else ()
        except Exception:
            # They are still wanted; events that came meanwhile are newer.
            for execution_id, event in events.items():
                if self._wanted.get(execution_id) is None:
                    self._wanted[execution_id] = event
            self._owners |= owners
            raise
        for snapshot in recent:
            self._found(snapshot, None)
        for snapshot in rows:
            self._found(snapshot, events.get(snapshot.id))
        self.read_count += len(ids)

    def _found(self, row: TaskSnapshot, event: Event | None) -> None:
        known = self._known.get(row.id)
        if known is not None and known.version > row.version:
            row = known  # a newer progress came while the row was read
        snapshot = None if event is None else applied(row, event)
        self._keep(snapshot or row)
