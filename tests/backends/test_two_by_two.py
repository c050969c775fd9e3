"""Two web servers and two workers: what is started here and runs there is watched elsewhere."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from devservers.redis import RedisServer
from tests.backends.faults import client_at, forms, rows, world_of
from tests.backends.kinds import Kind
from tests.backends.world import World
from tests.support.client import FINAL, FOLLOW_MINE, Event, subscribe
from tests.support.measures import report, spread
from tests.support.waiting import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

SLOTS = 4
# By looks at its row, which come every two seconds, a watcher would see two or three versions.
STEPS, PAUSE = 8, 0.25


@pytest.fixture(scope="module")
def world(
    kind: Kind, broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    url = broker_server.url
    with world_of(kind, url, postgres_server, django_db_blocker, bus="redis") as it:
        for _ in range(2):
            it.serve()
            it.work(slots=SLOTS)
        yield it


@forms(short=16, long=40)
async def test_my_tasks_are_sent_wherever_they_run(
    world: World, broker_server: RedisServer, size: int
) -> None:
    """Live: `myTaskUpdates` of one server shows what the other has started, in either worker."""
    async with (
        client_at(world, 0) as starter,
        client_at(world, 1) as watcher,
        watcher.socket() as ws,
    ):
        await subscribe(ws, FOLLOW_MINE, {})

        async def heard() -> bool:
            return any(":owner:" in it for it in broker_server.ask("PUBSUB", "CHANNELS"))

        await eventually(heard, timeout=20, every=0.05)
        call = f"roam(steps: {STEPS}, pause: {PAUSE})"
        ids = await asyncio.gather(*(starter.start(call) for _ in range(size)))
        seen: dict[str, list[Event]] = {it: [] for it in ids}
        ends: dict[str, datetime] = {}
        deadline = time.monotonic() + 60
        while len(ends) < size:
            frame = await asyncio.wait_for(ws.recv(), deadline - time.monotonic())
            event = json.loads(frame)["payload"]["data"]["myTaskUpdates"]
            seen[event["id"]].append(event)
            if event["status"] in FINAL:
                ends.setdefault(event["id"], datetime.now(UTC))
        with pytest.raises(TimeoutError):  # nothing comes after the last of them
            await asyncio.wait_for(ws.recv(), 2.5)

    found = await rows(ids)
    late = [(ends[str(it.id)] - it.completed_at).total_seconds() for it in found if it.completed_at]
    counts = [float(len(events)) for events in seen.values()]
    report(f"two by two {world.kind.name}", late=spread(late), events=spread(counts))
    for events in seen.values():
        versions = [(it["seq"], it["step"]) for it in events]
        assert versions == sorted(set(versions))
        assert [it["status"] for it in events if it["status"] in FINAL] == ["completed"]
    assert min(counts) >= STEPS - 2
    assert sorted(late)[size // 2] < 0.5
    assert {it.attempts for it in found} == {1}
    ran = {it.result for it in found}
    assert [bool(ran & set(worker.family())) for worker in world.workers] == [True, True]
