"""Two web servers and two workers: what is started here and runs there is watched elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from devservers.redis import RedisServer
from rail_async_tasks.models import TaskRuntime
from tests.backends.faults import client_at, forms, rows, world_of
from tests.backends.kinds import Kind
from tests.backends.world import World
from tests.support.client import FINAL, FOLLOW_MINE, Event, subscribe
from tests.support.measures import report, spread
from tests.support.waiting import TIMEOUT, eventually

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

SLOTS, WORKERS = 4, 2
# Each step waits until the watcher has seen the one before.
STEPS = 8


@pytest.fixture(scope="module")
def world(
    kind: Kind, broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    url = broker_server.url
    with world_of(kind, url, postgres_server, django_db_blocker, bus="redis") as it:
        for _ in range(WORKERS):
            it.serve()
            it.work(slots=SLOTS)
        yield it


@forms(short=16, long=40)
async def test_my_tasks_are_sent_wherever_they_run(
    world: World, broker_server: RedisServer, size: int, tmp_path: Path
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

        async def all_are_up() -> bool:
            return await TaskRuntime.objects.filter(dead=False).acount() >= 2 * WORKERS

        await eventually(heard, every=0.05)
        await eventually(all_are_up, every=0.1)
        call = f'roam(steps: {STEPS}, seen: "{tmp_path}")'
        ids = await asyncio.gather(*(starter.start(call) for _ in range(size)))
        seen: dict[str, list[Event]] = {it: [] for it in ids}
        ends: dict[str, datetime] = {}
        first: dict[str, Event] = {}
        while len(ends) < size:
            frame = await asyncio.wait_for(ws.recv(), TIMEOUT)
            event = json.loads(frame)["payload"]["data"]["myTaskUpdates"]
            seen[event["id"]].append(event)
            if event["status"] in FINAL:
                ends.setdefault(event["id"], datetime.now(UTC))
                continue
            if event["progress"]:
                first.setdefault(event["id"], event)
            # Until both workers are full nothing goes on, so that neither does all of it.
            if len(first) == SLOTS * WORKERS:
                for it in first.values():
                    (tmp_path / f"{it['id']} {it['progress']}").touch()
            if len(first) >= SLOTS * WORKERS and event["progress"]:
                (tmp_path / f"{event['id']} {event['progress']}").touch()
        # Nothing comes after the last of them: this task's events are the next ones.
        other = await starter.start("add(a: 1, b: 2)")
        frame = await asyncio.wait_for(ws.recv(), TIMEOUT)
        assert json.loads(frame)["payload"]["data"]["myTaskUpdates"]["id"] == other

    found = await rows(ids)
    late = [(ends[str(it.id)] - it.completed_at).total_seconds() for it in found if it.completed_at]
    counts = [float(len(events)) for events in seen.values()]
    report(f"two by two {world.kind.name}", late=spread(late), events=spread(counts))
    for events in seen.values():
        versions = [(it["seq"], it["step"]) for it in events]
        assert versions == sorted(set(versions))
        assert [it["status"] for it in events if it["status"] in FINAL] == ["completed"]
    assert min(counts) > STEPS
    assert {it.attempts for it in found} == {1}
    ran = {it.result for it in found}
    assert [bool(ran & set(worker.family())) for worker in world.workers] == [True, True]
