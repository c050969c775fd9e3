"""A watcher of all of an owner's tasks sees none that ended before it joined."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from devservers.redis import RedisServer
from rail_async_tasks import Task, service, task
from rail_async_tasks.access import Viewer
from rail_async_tasks.hosting import process as host
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.runtimes import Configure
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, collected, eventually, final

pytestmark = pytest.mark.usefixtures("ends_cleanly")

ADA = Viewer("1")
LATE = 5


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def bus(request: pytest.FixtureRequest, configure: Configure) -> str:
    """By what bus the watchers hear."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        configure(redis_url=server.url, subscription_channel="late")
    return str(request.param)


@pytest.fixture
def looks(timings: Timings) -> None:
    """The reconciler reads all the time."""
    timings.set("reconciler", interval=0.01)
    timings.set("reconciler", watched_every=1)


def declared() -> Task:
    @task(name="late.echo")
    async def echo(n: int) -> int:
        return n

    return echo


class Look:
    """Counts the looks for what an owner's tasks have done lately, once they were delivered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        ledger = host.ledger()
        read = ledger.changed_lately

        async def counted(owners: Collection[str], seconds: float) -> list[TaskSnapshot]:
            found = await read(owners, seconds)
            asyncio.get_running_loop().call_soon(self._add)  # after the delivery, a plain call
            return found

        monkeypatch.setattr(ledger, "changed_lately", counted)

    def _add(self) -> None:
        self.count += 1

    async def two(self) -> None:
        """Returns when two have begun and ended."""
        enough = self.count + 3
        await eventually(lambda: self.count >= enough)


@asynccontextmanager
async def watcher(viewer: Viewer = ADA) -> AsyncIterator[list[TaskSnapshot]]:
    """Yields what a watcher sees; it has joined, as it has seen the task that waits for it."""
    async with collected(service.watch_mine(viewer)) as seen:
        yield seen


async def test_a_late_watcher_sees_nothing_that_has_ended(
    bus: str, looks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tasks that ended before it joined, also where an earlier watcher is still there."""
    echo = declared()
    await host.aruntime()
    look = Look(monkeypatch)
    waits = await echo.using(owner="1", delay=3600).aenqueue(n=0)
    async with AsyncExitStack() as stack:
        joined: list[list[TaskSnapshot]] = []
        for number in range(LATE):
            await final(await echo.using(owner="1").aenqueue(n=number))
            joined.append(await stack.enter_async_context(watcher()))
        await look.two()
        marker = await echo.using(owner="1").aenqueue(n=LATE)
        await final(marker)
        for seen in joined:
            await eventually(lambda seen=seen: seen[-1].is_final and seen[-1].id == marker.id)  # type: ignore[misc]
        late = [[it.id for it in seen if it.is_final] for seen in joined]
        assert late[-1] == [marker.id]
        assert [len(ids) for ids in late] == list(range(LATE, 0, -1))
    await waits.acancel()


async def test_what_begins_and_ends_after_the_join_is_seen_without_a_word(
    configure: Configure, looks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By reading again alone: no event comes of it."""
    configure(emit_subscriptions=False)
    echo = declared()
    await host.aruntime()
    waits = await echo.using(owner="1", delay=3600).aenqueue(n=0)
    await final(await echo.using(owner="1").aenqueue(n=1))
    async with watcher() as seen:
        new = await echo.using(owner="1").aenqueue(n=2)
        await eventually(lambda: seen[-1].is_final)
        assert {it.id for it in seen} == {waits.id, new.id}
    await waits.acancel()


async def test_what_ends_while_a_watcher_joins_is_seen(
    configure: Configure, looks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On either side of the moment from which it hears events."""
    echo = declared()
    await host.aruntime()
    waits = await echo.using(owner="1", delay=3600).aenqueue(n=0)
    ended: list[UUID] = []
    bus = host.bus()
    subscribe = bus.subscribe

    @asynccontextmanager
    async def slowly(topic: str) -> AsyncIterator[Any]:
        if not topic.startswith("owner:"):
            async with subscribe(topic) as mailbox:
                yield mailbox
            return
        for when in ("before", "after"):
            handle = await echo.using(owner="1").aenqueue(n=0)
            await final(handle)
            ended.append(handle.id)
            if when == "before":
                context = subscribe(topic)
                mailbox = await context.__aenter__()
        try:
            yield mailbox
        finally:
            await context.__aexit__(None, None, None)

    monkeypatch.setattr(bus, "subscribe", slowly)
    async with watcher() as seen:
        await eventually(
            lambda: {it.id for it in seen if it.is_final} == set(ended), timeout=TIMEOUT
        )
    await waits.acancel()
