"""The end of a process that runs tasks: who waits for whom, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from rail_async_tasks import task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from tests.support.clock import FakeClock
from tests.support.runtimes import Configure, in_memory
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually, until_status

pytestmark = [in_memory, pytest.mark.usefixtures("ends_cleanly")]


@pytest.fixture(autouse=True)
def back_again() -> Iterator[None]:
    """Later tests do not find a process that is going away."""
    yield
    server.reset()


async def test_a_stop_waits_for_the_drain_that_has_begun(
    configure: Configure, timings: Timings, clock: FakeClock
) -> None:
    """A signal begins the drain, the server's end comes soon after: bodies have their time."""
    configure(drain_seconds=20)
    timings.set("end", flush_timeout=0.1)

    @task(name="drain.short", max_retries=0)
    async def short() -> str:
        await asyncio.sleep(15)
        return "done"

    handle = await short.aenqueue()
    await until_status(handle, "running")
    server.begin_drain()
    await eventually(server.is_going_away)
    ends = asyncio.create_task(server.shutdown())
    await clock.advance(14)
    assert not ends.done()

    async def over() -> bool:
        await clock.advance(0.5)
        return ends.done()

    await eventually(over)
    assert (await handle.arefresh()).status == "completed"


async def test_a_drain_in_a_hurry(configure: Configure) -> None:
    """Before or after it has begun: what runs is handed back at once."""
    configure(drain_seconds=3600)

    @task(name="drain.long")
    async def long() -> None:
        await asyncio.Event().wait()

    for hurried_first in (True, False):
        handle = await long.aenqueue()
        await until_status(handle, "running")
        current = host.current()
        assert current is not None
        async with asyncio.timeout(TIMEOUT):
            if hurried_first:
                current.hurry()
                assert (await handle.arefresh()).status == "running"
                await current.drain()
            else:
                draining = asyncio.create_task(current.drain())
                await eventually(lambda: current.draining)  # noqa: B023 (called in this round)
                current.hurry()
                await draining
        assert (await handle.arefresh()).status == "retrying"
        await handle.acancel()
        await host.astop()


async def test_what_waits_begins_before_the_end(configure: Configure) -> None:
    """`caught_up` returns when all that finds a slot has begun, and what finds none waits on."""
    configure(max_concurrency=2)

    @task(name="drain.hold")
    async def hold() -> None:
        await asyncio.Event().wait()

    handles = [await hold.aenqueue() for _ in range(3)]
    current = host.current()
    assert current is not None
    await current.caught_up()
    assert len(current.attempts) == 2
    statuses = sorted([(await handle.arefresh()).status for handle in handles])
    assert statuses == ["pending", "running", "running"]
    for handle in handles:
        await handle.acancel()
    await eventually(lambda: not current.attempts)
