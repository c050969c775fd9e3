"""Two server processes and a Redis: what runs in one is watched, and cancelled, in the other."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from devservers.redis import RedisServer
from tests.faults.fleet import Fleet, forms, held, on, rows
from tests.support.client import FIELDS, FINAL, FOLLOW_MINE, Client, Event, subscribe
from tests.support.measures import report, spread
from tests.support.waiting import eventually

pytestmark = pytest.mark.redis

CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { status cancelRequested } }"
# A task of 6 s reports at most ten times a second. By reads of its row, every two seconds,
# a watcher would see three or four versions.
SECONDS, AT_LEAST = 6.0, 9


async def stamped(client: Client, task_id: str) -> list[tuple[datetime, Event]]:
    """A subscriber's events, each with the time at which it came."""
    return [(datetime.now(UTC), event) async for event in client.by_socket(task_id)]


@forms("kind", on("sqlite", "uvicorn", long=True), on("postgres", "uvicorn-uvloop"))
async def test_progress_crosses_processes(
    database: Any, kind: str, fleet: Fleet, own_redis: RedisServer
) -> None:
    """Live, with two connections of each process; and with Redis gone, by reading again."""
    here, there = await fleet.serve_many(2, kind=kind, redis_url=own_redis.url)
    watcher, starter = fleet.client(here), fleet.client(there)
    await eventually(lambda: _connected(own_redis, 2), timeout=20, every=0.05)
    ids = await held(starter, [f"churn(seconds: {SECONDS})" for _ in range(10)])
    streams = await asyncio.gather(*(stamped(watcher, it) for it in ids))
    found = {str(row.id): row for row in await rows(ids)}
    late = []
    for task_id, stream in zip(ids, streams, strict=True):
        events = [event for _, event in stream]
        versions = [(it["seq"], it["step"]) for it in events]
        assert versions == sorted(set(versions))
        assert [it["status"] in FINAL for it in events] == [False] * (len(events) - 1) + [True]
        assert len(events) >= AT_LEAST
        late.append((stream[-1][0] - found[task_id].completed_at).total_seconds())
    report(f"redis progress {database.kind}", late=spread(late), events=spread(
        [float(len(stream)) for stream in streams]))  # fmt: skip
    assert min(late) < 1
    assert len(own_redis.clients()) <= 4
    own_redis.stop()
    [task_id] = await held(starter, ["churn(seconds: 0.5)"])
    events = await watcher.everything(watcher.by_socket(task_id))
    assert events[-1]["status"] == "completed"


async def _connected(server: RedisServer, count: int) -> bool:
    """Returns whether so many processes listen."""
    return bool(server.ask("PUBSUB", "NUMSUB", "tasks:cancels")[1] == count)


@forms("", on("sqlite"))
async def test_my_tasks_are_sent_from_another_process(
    database: Any, fleet: Fleet, own_redis: RedisServer
) -> None:
    """`myTaskUpdates` on one shows what was started on the other."""
    here, there = await fleet.serve_many(2, redis_url=own_redis.url)
    watcher, starter = fleet.client(here), fleet.client(there)
    await eventually(lambda: _connected(own_redis, 2), timeout=20, every=0.05)
    async with watcher.socket() as ws:
        await subscribe(ws, FOLLOW_MINE, {})
        await eventually(lambda: _heard(own_redis), timeout=20, every=0.05)
        [task_id] = await held(starter, [f"churn(seconds: {SECONDS})"])
        seen: list[Event] = []
        async with asyncio.timeout(20):
            while not seen or seen[-1]["status"] not in FINAL:
                frame = _payload(await ws.recv())["myTaskUpdates"]
                seen += [frame] if frame["id"] == task_id else []
    assert len(seen) >= AT_LEAST
    assert set(seen[-1]) == set(FIELDS.split())


async def _heard(server: RedisServer) -> bool:
    return any(":owner:" in it for it in server.ask("PUBSUB", "CHANNELS"))


def _payload(frame: Any) -> Any:
    return json.loads(frame)["payload"]["data"]


@forms("", on("sqlite"))
async def test_a_cancel_crosses_processes(
    database: Any, fleet: Fleet, own_redis: RedisServer
) -> None:
    """It is heeded before the holder would have looked by itself, in the middle at least."""
    here, there = await fleet.serve_many(2, redis_url=own_redis.url)
    asker, starter = fleet.client(here), fleet.client(there)
    await eventually(lambda: _connected(own_redis, 2), timeout=20, every=0.05)
    taken = []
    for _ in range(5):
        [task_id] = await held(starter, ["hold"])
        began = time.monotonic()
        await asker.ask(CANCEL, id=task_id)
        assert (await asker.final(task_id))["status"] == "cancelled"
        taken.append(time.monotonic() - began)
    report("redis cancel", seconds=spread(taken))
    assert min(taken) < 0.8
