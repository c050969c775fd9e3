"""Two server processes and a Redis: what runs in one is watched, and cancelled, in the other."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from devservers.redis import RedisServer
from tests.faults.fleet import Fleet, forms, held, on, rows
from tests.support.client import FIELDS, FINAL, FOLLOW_MINE, Client, Event, subscribe
from tests.support.measures import report, spread
from tests.support.waiting import TIMEOUT, eventually

pytestmark = pytest.mark.redis

CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { status cancelRequested } }"
# So many reports of a running task must come in less than a second after the one before: it reports
# ten times a second. By reads of its row, every two seconds, a watcher would see none so soon.
AT_LEAST, SOON = 5, 1.0


class Gate:
    """A file for which a task waits; made once its watcher has seen enough."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self.call = f'churn(seconds: 0, gate: "{self.path}")'
        self._last: float | None = None
        self._soon = 0

    def saw(self, event: Event) -> None:
        """Notes that an event has come."""
        now = time.monotonic()
        if event["status"] == "running" and self._last is not None:
            self._soon += now - self._last < SOON
        self._last = now
        if self._soon >= AT_LEAST:
            self.path.touch()


async def stamped(client: Client, task_id: str, gate: Gate) -> list[tuple[datetime, Event]]:
    """A subscriber's events, each with the time at which it came."""
    found = []
    async for event in client.by_socket(task_id):
        found.append((datetime.now(UTC), event))
        gate.saw(event)
    return found


@forms("kind", on("sqlite", "uvicorn", long=True), on("postgres", "uvicorn-uvloop"))
async def test_progress_crosses_processes(
    database: Any, kind: str, fleet: Fleet, own_redis: RedisServer, tmp_path: Path
) -> None:
    """Live, with two connections of each process; and with Redis gone, by reading again."""
    here, there = await fleet.serve_many(2, kind=kind, redis_url=own_redis.url)
    watcher, starter = fleet.client(here), fleet.client(there)
    await eventually(lambda: _connected(own_redis, 2), every=0.05)
    gates = [Gate(tmp_path, f"gate {number}") for number in range(10)]
    ids = await held(starter, [it.call for it in gates])
    async with asyncio.timeout(2 * TIMEOUT):
        streams = [await stamped(watcher, *it) for it in zip(ids, gates, strict=True)]
    found = {str(row.id): row for row in await rows(ids)}
    late = []
    for task_id, stream in zip(ids, streams, strict=True):
        events = [event for _, event in stream]
        versions = [(it["seq"], it["step"]) for it in events]
        assert versions == sorted(set(versions))
        assert [it["status"] in FINAL for it in events] == [False] * (len(events) - 1) + [True]
        late.append((stream[-1][0] - found[task_id].completed_at).total_seconds())
    report(f"redis progress {database.kind}", late=spread(late), events=spread(
        [float(len(stream)) for stream in streams]))  # fmt: skip
    assert min(late) < SOON
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
    database: Any, fleet: Fleet, own_redis: RedisServer, tmp_path: Path
) -> None:
    """`myTaskUpdates` on one shows what was started on the other."""
    here, there = await fleet.serve_many(2, redis_url=own_redis.url)
    watcher, starter = fleet.client(here), fleet.client(there)
    await eventually(lambda: _connected(own_redis, 2), every=0.05)
    async with watcher.socket() as ws:
        await subscribe(ws, FOLLOW_MINE, {})
        await eventually(lambda: _heard(own_redis), every=0.05)
        gate = Gate(tmp_path, "gate")
        [task_id] = await held(starter, [gate.call])
        seen: list[Event] = []
        async with asyncio.timeout(TIMEOUT):
            while not seen or seen[-1]["status"] not in FINAL:
                frame = _payload(await ws.recv())["myTaskUpdates"]
                if frame["id"] == task_id:
                    seen.append(frame)
                    gate.saw(frame)
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
    await eventually(lambda: _connected(own_redis, 2), every=0.05)
    taken = []
    for _ in range(5):
        [task_id] = await held(starter, ["hold"])
        began = time.monotonic()
        await asker.ask(CANCEL, id=task_id)
        assert (await asker.final(task_id))["status"] == "cancelled"
        taken.append(time.monotonic() - began)
    report("redis cancel", seconds=spread(taken))
    assert min(taken) < 0.8
