"""Redis goes away, with what it holds or without: no task is lost, no process ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from devservers.redis import RedisServer
from tests.backends.faults import (
    Silence,
    assert_events_in_order,
    attempts,
    client_at,
    everything,
    forms,
    leave,
    rows,
    silenceable,
    until_all,
    until_begun,
    until_still,
    world_of,
)
from tests.backends.kinds import Kind
from tests.backends.world import World
from tests.support.measures import report
from tests.support.waiting import TIMEOUT

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

# A lease that a busy machine does not break: it is not what is tested here.
SETTINGS: dict[str, Any] = {"bus": "redis", "lease_seconds": 15}
# Each of Django-Q's is a process with a runtime of its own.
SLOTS = {"django_q": 20}
WATCHERS = 100
# What is started while Redis is away begins so many seconds after its return.
RECOVERY = 10.0
# Django-Q can't be asked what it has lost: that is sent again when it has been away for a minute.
LOST = {"django_q": 75.0}
PAUSE = 0.5


@dataclass(frozen=True)
class Size:
    """`queued` behind what runs; Redis away for so many seconds, and watched for some more."""

    queued: int
    seconds: float
    after: float


# The short form runs in every run, on machines that are busy: it is held to no seconds.
SHORT, LONG, SILENT = Size(60, 5, 3), Size(500, 30, 12), Size(500, 20, 15)


def slots(kind: Kind) -> int:
    return SLOTS.get(kind.name, 100)


def serving(world: World) -> World:
    """With two web servers and a worker, which has taken tasks."""
    world.serve()
    world.serve()
    world.work(slots=slots(world.kind))
    return world


@pytest.fixture(scope="module")
def world(
    kind: Kind, broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    url = broker_server.url
    with world_of(kind, url, postgres_server, django_db_blocker, **SETTINGS) as it:
        yield serving(it)


@pytest.fixture
def silence(own_redis: RedisServer) -> Iterator[Silence]:
    with silenceable(own_redis.port) as it:
        yield it


@pytest.fixture
def behind(
    kind: Kind, silence: Silence, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    """A world between which and its Redis something stands."""
    with world_of(kind, silence.url, postgres_server, django_db_blocker, **SETTINGS) as it:
        yield serving(it)


@forms(short=SHORT, long=LONG)
async def test_redis_forgets_everything(
    world: World, broker_server: RedisServer, size: Size
) -> None:
    """FLUSHALL under what runs and what is queued: all of it ends, each in one attempt."""
    count = slots(world.kind)
    ids = await leave("backends.wait", count, seconds=4.0 if size is SHORT else 15.0)
    await until_begun(ids, TIMEOUT)
    queued = await leave("backends.add", size.queued, a=1, b=2)
    lost = await until_still(world, broker_server)
    broker_server.ask("FLUSHALL")
    began = datetime.now(UTC)
    within = LOST.get(world.kind.name, 20.0)
    found = await until_all(ids + queued, "completed", within + TIMEOUT)
    last = max((row.completed_at - began).total_seconds() for row in found if row.completed_at)
    report(f"FLUSHALL {world.kind.name}", running=count, queued=size.queued, lost=lost,
           last_end=last, sent_twice=sum(row.dispatches > 1 for row in found))  # fmt: skip
    assert attempts(found) == {(1, 0): len(found)}
    assert last < within or size is SHORT


@forms(short=SHORT, long=LONG)
async def test_redis_is_away(world: World, broker_server: RedisServer, size: Size) -> None:
    """Stopped, and started again a while later."""

    async def away() -> None:
        await asyncio.to_thread(broker_server.stop)

    async def back() -> None:
        await asyncio.to_thread(broker_server.start)

    await outlasts(world, size, away, back)


@forms(long=LONG)
async def test_redis_is_restarted(world: World, broker_server: RedisServer, size: Size) -> None:
    """At once, without its data."""

    async def away() -> None:
        await asyncio.to_thread(broker_server.stop)
        await asyncio.to_thread(broker_server.start)

    async def back() -> None:
        """It is."""

    await outlasts(world, replace(size, seconds=0), away, back)


@forms(long=SILENT)
async def test_redis_is_there_and_silent(behind: World, silence: Silence, size: Size) -> None:
    """Its connections stay open, for good, and nothing comes through; nor through new ones."""

    async def away() -> None:
        silence.begin()

    async def back() -> None:
        silence.end()

    await outlasts(behind, size, away, back)


Does = Callable[[], Awaitable[None]]


async def outlasts(world: World, size: Size, away: Does, back: Does) -> None:
    """Redis goes, under tasks that are watched, and comes back."""
    seconds = size.seconds
    async with client_at(world, 0) as starter, client_at(world, 1) as watcher:
        # Half of them end before Redis is back; the rest when everything has found it again.
        longest = seconds + size.after
        steps = [int(it / PAUSE) for it in (max(seconds, 4.0), longest)]
        calls = [f"climb(steps: {steps[n % 2]}, pause: {PAUSE})" for n in range(slots(world.kind))]
        ids = [await starter.start(call) for call in calls]
        streams = [everything(watcher, ids[n % len(ids)]) for n in range(WATCHERS)]
        watching = [asyncio.ensure_future(it) for it in streams]
        await until_begun(ids, TIMEOUT)
        processes = world.processes()

        await away()
        gone = time.monotonic()
        started, answers = [], []
        while not started or time.monotonic() < gone + seconds - 1:
            began = time.monotonic()
            started.append(await starter.start("add(a: 1, b: 2)"))
            answers.append(time.monotonic() - began)
            await asyncio.sleep(1)
        await asyncio.sleep(max(gone + seconds - time.monotonic(), 0))
        await back()
        found = datetime.now(UTC)

        late = await until_all(started, "completed", RECOVERY + TIMEOUT)
        starts = [(row.started_at - found).total_seconds() for row in late if row.started_at]
        streams = await asyncio.wait_for(asyncio.gather(*watching), longest + TIMEOUT)
        report(f"away for {seconds} s: {world.kind.name}", first_start=min(starts),
               last_start=max(starts), longest_answer=max(answers), events=sum(map(len, streams)),
               sent_twice=sum(row.dispatches > 1 for row in late))  # fmt: skip
        for events in streams:
            assert_events_in_order(events)
        ended = await rows(ids + started)
        assert attempts(ended) == {(1, 0): len(ended)}
        if size is not SHORT:
            assert max(starts) < RECOVERY
            assert max(answers) < 3
        assert world.processes() == processes
        assert [it for server in world.servers for it in server.alarms()] == []


@forms(long=LONG)
async def test_redis_drops_its_connections(
    world: World, broker_server: RedisServer, size: Size
) -> None:
    """All of them, again and again, under what runs and what comes in."""
    await until_all(await leave("backends.add", 1, a=1, b=2), "completed", 60)  # all are there
    processes = world.processes()
    ids = []
    for _ in range(5):
        ids += await leave("backends.wait", slots(world.kind) // 10, seconds=1.0)
        ids += await leave("backends.add", 20, a=1, b=2)
        for kind in ("normal", "pubsub", "normal"):
            broker_server.ask("CLIENT", "KILL", "TYPE", kind)
            await asyncio.sleep(0.4)
    began = datetime.now(UTC)
    found = await until_all(ids, "completed", LOST.get(world.kind.name, 20) + 20)
    last = max((row.completed_at - began).total_seconds() for row in found if row.completed_at)
    report(f"CLIENT KILL {world.kind.name}", count=len(ids), last_end=last,
           sent_twice=sum(row.dispatches > 1 for row in found))  # fmt: skip
    assert attempts(found) == {(1, 0): len(found)}
    assert world.processes() == processes
