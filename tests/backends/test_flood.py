"""Thousands wait for a worker that is not there: the broker holds a window of them, each once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from devservers.redis import RedisServer
from tests.backends.faults import forms, held, leave, until_all, world_of
from tests.backends.kinds import Kind
from tests.backends.world import World
from tests.support.measures import report
from tests.support.waiting import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

# Twice `max_concurrency`: so many of a queue are under way; twice that where both servers look at
# the same moment, before either has sent.
WINDOW, SENDERS = 200, 2
# How often an execution is in the broker when it was sent a second time, after a minute: arq's
# queue has a place for each.
COPIES = {"arq": 1}


@dataclass(frozen=True)
class Size:
    """So many wait, for so many seconds."""

    count: int
    seconds: float


@pytest.fixture(scope="module")
def world(
    kind: Kind, broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    """Two web servers, and no worker."""
    with world_of(kind, broker_server.url, postgres_server, django_db_blocker) as it:
        it.serve()
        it.serve()
        yield it


@forms(short=Size(1000, 4), long=Size(5000, 70))
async def test_no_flood(world: World, broker_server: RedisServer, size: Size) -> None:
    """However long they wait, and from any sender. Then a worker comes, and each runs once."""
    broker_server.ask("FLUSHALL")
    name = world.kind.name
    ids = await leave("backends.add", size.count, a=1, b=2)
    await eventually(lambda: held(world, broker_server) > 0)
    holds = []
    until = time.monotonic() + size.seconds
    while time.monotonic() < until:
        await asyncio.sleep(1)
        holds.append(held(world, broker_server))
    assert max(holds[:55]) <= SENDERS * WINDOW, holds
    assert max(holds) <= COPIES.get(name, 2) * SENDERS * WINDOW, holds

    def jobs() -> tuple[int, int]:
        return len(broker_server.ask("KEYS", "arq:job:*")), held(world, broker_server)

    await eventually(lambda: len(set(jobs())) == 1 if name == "arq" else jobs()[0] == 0, jobs)

    began = time.monotonic()
    worker = world.work()
    assert worker is not None
    found = await until_all(ids, "completed", 600, every=1 if size.count > 1000 else 0.1)
    drained = time.monotonic() - began
    report(f"flood {name}", count=size.count, first_minute=max(holds[:55]), held=max(holds),
           sent=sum(it.dispatches for it in found), drained=drained)  # fmt: skip
    assert {it.attempts for it in found} == {1}
    await asyncio.to_thread(worker.stop)
    world.workers.remove(worker)
