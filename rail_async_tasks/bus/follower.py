"""From news of other processes to snapshots: progress as it was told, states as the rows say."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

from rail_async_tasks.bus.failures import bus_backoff
from rail_async_tasks.bus.wire import News, applied
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.snapshot import TaskSnapshot, owner_of, task_id_of
from rail_async_tasks.text import describe

# Executions of other processes whose latest state is remembered.
REMEMBERED = 10_000
# Rows that are read at once, and that may wait to be read: what is more is left to the sweeper.
PAGE = 500
MOST_WANTED = 10_000
# How far back (seconds) a watcher who has just joined is told of an owner's changes: from before
# it asked, by the clock of the database.
LOOK_BACK = 5.0
# Between two reads, in seconds.
PAUSE = 0.01


class Follower:
    """On one event loop. Nothing that it is told is taken for the truth but a percentage."""

    def __init__(self, deliver: Callable[[TaskSnapshot], None]) -> None:
        self._deliver = deliver
        self._known: OrderedDict[UUID, TaskSnapshot] = OrderedDict()
        self._wanted: dict[UUID, News | None] = {}
        self._owners: set[str] = set()
        self._wake = asyncio.Event()
        self.read_count = 0

    def heard(self, news: News) -> None:
        """Another process has told this."""
        known = self._known.get(news.id)
        if known is not None:
            if news.version <= known.version:
                return
            if (snapshot := applied(known, news)) is not None:
                self._keep(snapshot)
                return
        wanted = self._wanted.get(news.id)
        if wanted is None or wanted.version < news.version:
            self._want(news.id, news)

    def joined(self, topic: str) -> None:
        """From now on the topic is heard: what happened just before is read."""
        execution_id = task_id_of(topic)
        if execution_id is not None:
            self._want(execution_id, self._wanted.get(execution_id))
        elif (owner_id := owner_of(topic)) is not None:
            self._owners.add(owner_id)
            self._wake.set()

    def _want(self, execution_id: UUID, news: News | None) -> None:
        if len(self._wanted) < MOST_WANTED or execution_id in self._wanted:
            self._wanted[execution_id] = news
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

    async def run(self, ledger: Ledger) -> None:
        """Reads what is wanted, one query at a time. Ends by being cancelled."""
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

    async def _read(self, ledger: Ledger) -> None:
        ids = list(self._wanted)[:PAGE]
        told = {execution_id: self._wanted.pop(execution_id) for execution_id in ids}
        owners, self._owners = self._owners, set()
        try:
            recent = await ledger.changed_lately(list(owners), LOOK_BACK) if owners else ()
            rows = await ledger.reread(ids) if ids else ()
        except Exception:
            # They are still wanted; what was told meanwhile is newer.
            for execution_id, news in told.items():
                if self._wanted.get(execution_id) is None:
                    self._wanted[execution_id] = news
            self._owners |= owners
            raise
        for snapshot in recent:
            self._found(snapshot, None)
        for snapshot in rows:
            self._found(snapshot, told.get(snapshot.id))
        self.read_count += len(ids)

    def _found(self, row: TaskSnapshot, news: News | None) -> None:
        known = self._known.get(row.id)
        if known is not None and known.version > row.version:
            row = known  # progress was told while the row was read: it is newer than what is saved
        snapshot = None if news is None else applied(row, news)
        self._keep(snapshot or row)
