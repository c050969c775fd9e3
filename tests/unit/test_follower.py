"""Events of other processes, followed by reading rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from rail_async_tasks.bus.follower import Follower
from rail_async_tasks.bus.wire import event_of
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.port import LoopReads
from rail_async_tasks.snapshot import TaskSnapshot, owner_topic, task_topic
from tests.support.waiting import TIMEOUT

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot(it: UUID, step: int) -> TaskSnapshot:
    return TaskSnapshot(
        id=it, name="echo", status="running", queue="default", seq=2, step=step, progress=step,
        created_at=NOW, updated_at=NOW,
    )  # fmt: skip


class Rows:
    """The follower's reads of a ledger that is away for the first looks."""

    def __init__(self, away: int, *rows: TaskSnapshot) -> None:
        self.away = away
        self.rows = {row.id: row for row in rows}
        self.looks: list[object] = []

    def _look(self, asked: object) -> list[TaskSnapshot]:
        self.looks.append(asked)
        if len(self.looks) <= self.away:
            raise ConnectionError("the database is away")
        return list(self.rows.values())

    async def reread(self, execution_ids: Sequence[UUID]) -> list[TaskSnapshot]:
        return [row for row in self._look(list(execution_ids)) if row.id in execution_ids]

    async def changed_lately(self, owners: Sequence[str], seconds: float) -> list[TaskSnapshot]:
        return self._look(list(owners))


async def followed(rows: Rows, count: int, act: Any) -> list[TaskSnapshot]:
    """The first `count` snapshots that are delivered after `act` was called with the follower."""
    loop = asyncio.get_running_loop()
    seen: list[TaskSnapshot] = []
    enough: asyncio.Future[None] = loop.create_future()

    def deliver(it: TaskSnapshot) -> None:
        seen.append(it)
        if len(seen) == count:
            enough.set_result(None)

    follower = Follower(deliver)
    act(follower)
    running = asyncio.create_task(follower.run(cast(LoopReads, rows)))
    try:
        await asyncio.wait_for(enough, TIMEOUT)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return seen


async def test_events_whose_row_could_not_be_read_are_read_again() -> None:
    """With the progress of the event, which the row does not have yet."""
    it = new_id()
    rows = Rows(1, snapshot(it, step=3))
    [seen] = await followed(
        rows, 1, lambda follower: follower.received(event_of(snapshot(it, 7), new_id()))
    )
    assert rows.looks == [[it], [it]]
    assert seen.version == (2, 7)


async def test_a_watcher_who_joins_while_rows_cannot_be_read_misses_nothing() -> None:
    """Of the owner's changes and of the execution: neither look is forgotten by its failure."""
    it, watched = new_id(), new_id()
    rows = Rows(1, snapshot(it, 0), snapshot(watched, 0))

    def join(follower: Follower) -> None:
        follower.joined(owner_topic("7", None))
        follower.joined(task_topic(watched))

    seen = await followed(rows, 3, join)
    assert rows.looks == [["7"], ["7"], [watched]]
    assert {row.id for row in seen} == {it, watched}
