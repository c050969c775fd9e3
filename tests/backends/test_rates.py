"""A queue with a rate, and two workers of each backend that share it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from devservers.redis import RedisServer
from rail_async_tasks.models import TaskRuntime
from tests.backends.faults import forms, until_all, world_of
from tests.backends.kinds import Kind
from tests.backends.world import World
from tests.support.measures import report
from tests.support.pauses import leave, starts
from tests.support.waiting import TIMEOUT, eventually

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

RATE = 5
FEW = 3
# So many seconds are enough to measure a rate by. In fewer, only what must never be is asserted: a
# start too many. How exact it is say the tests with a clock, in `contract` and `runtime`, too.
MEASURABLE = 20


@pytest.fixture(scope="module")
def world(
    kind: Kind, broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    rates = {"low": {"rate": f"{RATE}/s"}, "high": {"rate": "1/d"}}
    with world_of(kind, broker_server.url, postgres_server, django_db_blocker, queues=rates) as it:
        it.serve()
        for _ in range(2):
            it.work(slots=4)
        yield it


@forms(short=8, long=20)
async def test_two_workers_share_a_rate(world: World, size: int) -> None:
    """Within 5 % of it over so many seconds; tasks of another queue run meanwhile."""

    async def all_are_up() -> bool:
        return await TaskRuntime.objects.filter(dead=False).acount() == 3

    await eventually(all_are_up, every=0.1)
    held_back = await leave("backends.where", 4, "high")
    ids = await leave("backends.where", RATE * (size + 2), "low")

    async def begun() -> bool:
        return len(await starts(ids)) >= RATE

    await eventually(begun, every=0.05)
    others = await leave("backends.add", 20, "default", a=1, b=2)
    await until_all(others, "completed", seconds=TIMEOUT)
    found = await until_all(ids, "completed", seconds=size + TIMEOUT)
    assert len(await starts(held_back)) <= 1  # they wait for a day, and hold up no other queue
    times = await starts(ids)
    first = times[0]
    window = timedelta(seconds=size)
    count = sum(first <= at < first + window for at in times)
    report(f"rates {world.kind.name}", seconds=size, count=count)
    if size >= MEASURABLE:
        assert count == pytest.approx(RATE * size, rel=0.05, abs=FEW)
    assert count <= RATE * size * 1.05 + FEW
    per_second = [sum(at <= it < at + timedelta(seconds=1) for it in times) for at in times[:-RATE]]
    assert max(per_second) <= RATE * 1.5 + 1  # where a start was late
    assert {it.attempts for it in found} == {1}
    assert len({it.result for it in found}) >= 2  # a cluster of Django-Q has several processes
