"""Watching through the service: without gaps, in order, to the end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from rail_async_tasks import service
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.service.watching import SeenVersions
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.waiting import TIMEOUT
from tests.unit.service_world import ADA, ANONYMOUS, ECHO, finished, gate, start, started

pytestmark = pytest.mark.usefixtures("service_world")


async def test_a_watch_goes_from_how_it_stands_to_the_end(loop_kind: str) -> None:
    """Versions only grow; a final one ends it; one that joins late gets the final one alone."""
    it = await start(owner_id="1")
    seen = []
    async with aclosing(service.watch(ADA, it.id)) as snapshots:
        async for snapshot in snapshots:
            seen.append((snapshot.version, snapshot.status, snapshot.progress))
            if snapshot.status == "running" and snapshot.progress == 0:
                await started()
                gate.info.context.task.update_progress(30)
            if snapshot.progress == 30:
                gate.go.set()
    assert [version for version, _, _ in seen] == sorted({version for version, _, _ in seen})
    assert seen[-3:] == [
        ((2, 0), "running", 0),
        ((2, 1), "running", 30),
        ((3, 0), "completed", 100),
    ]
    assert host.bus().watched() == []
    late = [snapshot async for snapshot in service.watch(ADA, it.id)]
    assert [snapshot.status for snapshot in late] == ["completed"]


async def test_news_that_is_old_is_not_passed_on() -> None:
    """Events that arrive late, or again, are older than what the row has shown."""
    it = await start(delay=3600)
    newer = msgspec.structs.replace(it, seq=3, step=2)
    news = [msgspec.structs.replace(it, seq=seq, step=step) for seq, step in [(3, 2), (4, 0)]]
    old = [it, msgspec.structs.replace(it, seq=2, step=9)]
    async with aclosing(service.watch(ADA, it.id)) as snapshots:
        assert await anext(snapshots) == it
        for stale, newer in zip(old, news, strict=True):
            host.bus().publish(stale)
            reading = asyncio.ensure_future(anext(snapshots))
            await asyncio.sleep(0)  # the watch takes the stale one out of its mailbox
            host.bus().publish(newer)
            assert await asyncio.wait_for(reading, TIMEOUT) == newer


async def test_watching_mine_starts_with_what_is_unfinished() -> None:
    """Oldest first, then every change of one's own tasks, new ones too."""
    await finished(await start(ECHO, owner_id="1"))
    old = [await start(owner_id="1", delay=3600) for _ in range(2)]
    await start(owner_id="2", delay=3600)
    async with aclosing(service.watch_mine(ADA)) as snapshots:
        assert [(await anext(snapshots)).id for _ in range(2)] == [it.id for it in old]
        await service.acancel(ADA, old[0].id)
        cancelled = await anext(snapshots)
        assert (cancelled.id, cancelled.status) == (old[0].id, "cancelled")
        new = await start(ECHO, owner_id="1")
        seen = {}
        while seen.get(new.id) != "completed":
            snapshot = await asyncio.wait_for(anext(snapshots), TIMEOUT)
            seen[snapshot.id] = snapshot.status
        assert set(seen) == {new.id}
    assert [it async for it in service.watch_mine(ANONYMOUS)] == []


async def test_a_watcher_of_many_remembers_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The task that was quiet for longest is forgotten first."""
    seen = SeenVersions()
    monkeypatch.setattr(SeenVersions, "MAX", 2)
    it = await start(delay=3600)
    a, b, c = (_with_id(it, new_id()) for _ in range(3))
    assert [seen.advances(each) for each in (a, b, a, b, c, b, a)] == [
        True, True, False, False, True, False, True,
    ]  # fmt: skip


def _with_id(snapshot: TaskSnapshot, execution_id: Any) -> TaskSnapshot:
    return msgspec.structs.replace(snapshot, id=execution_id)
