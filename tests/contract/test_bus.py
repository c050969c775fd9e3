"""Every bus: who hears what, from any thread, without loss of a final snapshot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from devservers.redis import RedisServer
from rail_async_tasks.bus import memory
from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.bus.memory import MemoryBus
from rail_async_tasks.bus.port import Bus
from rail_async_tasks.bus.redis import RedisBus
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.snapshot import TaskSnapshot, owner_topic, task_topic
from tests.support.waiting import TIMEOUT, eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot(execution_id: UUID, seq: int = 1, step: int = 0, **fields: Any) -> TaskSnapshot:
    values = {"name": "echo", "status": "running", "queue": "default"} | fields
    return TaskSnapshot(
        id=execution_id, seq=seq, step=step, created_at=NOW, updated_at=NOW, **values
    )


async def read(mailbox: Mailbox) -> TaskSnapshot:
    return await asyncio.wait_for(anext(mailbox), TIMEOUT)


async def ended(mailbox: Mailbox) -> bool:
    with pytest.raises(StopAsyncIteration):
        await read(mailbox)
    return True


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def bus(request: pytest.FixtureRequest, anyio_backend: Any) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    redis_bus = RedisBus(server.url, f"test-{new_id()}")
    redis_bus.start(MemoryLedger(), lambda _: None, lambda: None)
    await eventually(lambda: redis_bus.connected)
    yield redis_bus
    await redis_bus.stop()


async def test_a_subscriber_hears_of_its_topic_only(bus: Bus, loop_kind: str) -> None:
    """Events that were published there after it joined, in order."""
    mine, other = new_id(), new_id()
    bus.publish(snapshot(mine, 1))
    async with bus.subscribe(task_topic(mine)) as mailbox:
        bus.publish(snapshot(other, 2))
        bus.publish(snapshot(mine, 3))
        assert (await read(mailbox)).seq == 3
        bus.publish(snapshot(mine, 4))
        assert (await read(mailbox)).seq == 4
        assert len(mailbox) == 0


async def test_an_owner_hears_of_all_its_tasks(bus: Bus) -> None:
    """Within the tenant, and of no other user's."""
    first, second = new_id(), new_id()
    async with bus.subscribe(owner_topic("1", "a")) as mailbox:
        bus.publish(snapshot(first, owner_id="1", tenant_id="a"))
        bus.publish(snapshot(new_id(), owner_id="1"))
        bus.publish(snapshot(new_id(), owner_id="2", tenant_id="a"))
        bus.publish(snapshot(new_id()))
        bus.publish(snapshot(second, owner_id="1", tenant_id="a"))
        assert [(await read(mailbox)).id for _ in range(2)] == [first, second]
        assert len(mailbox) == 0


async def test_each_subscriber_gets_its_own_copy(bus: Bus) -> None:
    """One that reads takes nothing from another; one that left takes nothing at all."""
    it = new_id()
    async with bus.subscribe(task_topic(it)) as one, bus.subscribe(task_topic(it)) as two:
        async with bus.subscribe(task_topic(it)) as gone:
            pass
        bus.publish(snapshot(it, 5))
        assert (await read(one)).seq == (await read(two)).seq == 5
        assert len(gone) == 0


async def test_a_slow_reader_gets_the_latest(bus: Bus) -> None:
    """Unread events are replaced by newer ones, and never grow beyond one per task."""
    it = new_id()
    async with bus.subscribe(task_topic(it)) as mailbox:
        for step in range(1000):
            bus.publish(snapshot(it, 1, step))
        assert len(mailbox) == 1
        assert (await read(mailbox)).version == (1, 999)


async def test_a_final_snapshot_is_never_replaced(bus: Bus) -> None:
    """Late news of before the end changes nothing."""
    it = new_id()
    async with bus.subscribe(task_topic(it)) as mailbox:
        bus.publish(snapshot(it, 3, status="completed"))
        bus.publish(snapshot(it, 2, 40))
        assert (await read(mailbox)).is_final


async def test_publishing_from_threads_wakes_the_reader(bus: Bus, loop_kind: str) -> None:
    """Of what four threads say, each task's last word arrives; versions only grow."""
    topic_owner = [new_id() for _ in range(4)]

    def publish(it: UUID) -> None:
        for seq in range(1, 200):
            bus.publish(snapshot(it, seq, owner_id="1"))
        bus.publish(snapshot(it, 200, owner_id="1", status="failed"))

    seen: dict[UUID, list[tuple[int, int]]] = {it: [] for it in topic_owner}
    final = 0
    async with bus.subscribe(owner_topic("1", None)) as mailbox:
        threads = [threading.Thread(target=publish, args=(it,)) for it in topic_owner]
        for thread in threads:
            thread.start()
        while final < len(topic_owner):
            news = await read(mailbox)
            seen[news.id].append(news.version)
            final += news.is_final
        for thread in threads:
            thread.join()
    for versions in seen.values():
        assert versions == sorted(set(versions))
        assert versions[-1] == (200, 0)


async def test_a_subscriber_on_another_loop(bus: Bus) -> None:
    """Hears it there."""
    it, joined = new_id(), threading.Event()
    heard: list[int] = []

    async def listen() -> None:
        async with bus.subscribe(task_topic(it)) as mailbox:
            joined.set()
            heard.append((await read(mailbox)).seq)

    thread = threading.Thread(target=lambda: asyncio.run(listen()))
    thread.start()
    await asyncio.to_thread(joined.wait, TIMEOUT)
    bus.publish(snapshot(it, 9))
    await asyncio.to_thread(thread.join)
    assert heard == [9]


async def test_a_reader_whose_loop_is_closed_does_not_disturb(bus: Bus) -> None:
    """Publishing never raises, also after a subscriber's loop was closed."""
    it = new_id()
    left = bus.subscribe(task_topic(it))
    loop = asyncio.new_event_loop()
    await asyncio.to_thread(loop.run_until_complete, left.__aenter__())
    loop.close()
    async with bus.subscribe(task_topic(it)) as mailbox:
        for seq in (1, 2):
            bus.publish(snapshot(it, seq))
        assert (await read(mailbox)).seq == 2


async def test_end_is_for_one_execution(bus: Bus) -> None:
    """Its subscribers read what is left, then end; others go on."""
    it, other = new_id(), new_id()
    async with bus.subscribe(task_topic(it)) as mailbox, bus.subscribe(task_topic(other)) as rest:
        bus.publish(snapshot(it, 2))
        bus.end(it)
        assert (await read(mailbox)).seq == 2
        assert await ended(mailbox)
        bus.publish(snapshot(other, 3))
        assert (await read(rest)).seq == 3


async def test_one_mailbox_for_several_topics(bus: Bus) -> None:
    """It hears of all of them, as one subscriber, and ends with the last of them."""
    one, two = new_id(), new_id()
    async with bus.subscribe(task_topic(one), task_topic(two), task_topic(one)) as mailbox:
        assert bus.statistics()["subscribers"] == 1
        bus.publish(snapshot(one, 2))
        bus.publish(snapshot(two, 3))
        assert (await read(mailbox)).id == one
        bus.end(one)
        assert (await read(mailbox)).id == two
        bus.publish(snapshot(two, 4))
        assert [it.seq for it in mailbox.take()] == [4]
        assert mailbox.take() == []
        bus.end(two)
        assert await ended(mailbox)
    assert bus.watched() == []


async def test_closing_ends_every_subscription(bus: Bus) -> None:
    """Also those that wait for something; later subscribers are served again."""
    it = new_id()
    async with bus.subscribe(task_topic(it)) as one, bus.subscribe(owner_topic("1", None)) as two:
        waiting = asyncio.create_task(ended(one))
        await asyncio.sleep(0)
        bus.close_mailboxes()
        assert await waiting
        assert await ended(two)
    async with bus.subscribe(task_topic(it)) as again:
        bus.publish(snapshot(it))
        await read(again)


async def test_watched_topics_are_those_with_subscribers(bus: Bus) -> None:
    """And none is left behind once they are gone, even by a failure."""
    assert bus.watched() == []
    it = new_id()
    topics = [owner_topic("1", None), task_topic(it)]
    with suppress(KeyError):
        async with bus.subscribe(topics[0]), bus.subscribe(topics[1]):
            assert sorted(bus.watched()) == topics
            assert bus.statistics()["subscribers"] == 2
            raise KeyError
    assert bus.watched() == []
    assert bus.statistics()["subscribers"] == 0


async def test_a_crowd_of_subscribers_is_served_in_slices(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop gets a turn in between, and each of them still hears the latest."""
    monkeypatch.setattr(memory, "SLICE", 3)
    it = new_id()
    contexts = [bus.subscribe(task_topic(it)) for _ in range(10)]
    mailboxes = [await context.__aenter__() for context in contexts]
    bus.publish(snapshot(it, 1))
    bus.publish(snapshot(it, 2))
    assert [len(mailbox) for mailbox in mailboxes] == [1] * 3 + [0] * 7
    assert {(await read(mailbox)).seq for mailbox in mailboxes[3:]} == {2}
    await asyncio.to_thread(bus.publish, snapshot(it, 3))
    assert {(await read(mailbox)).seq for mailbox in mailboxes} == {3}
    for context in contexts:
        await context.__aexit__(None, None, None)


async def test_what_is_delivered_stays_in_this_process(bus: Bus) -> None:
    """Subscribers here get it; nothing is published."""
    it = new_id()
    async with bus.subscribe(task_topic(it)) as mailbox:
        bus.deliver(snapshot(it, 2))
        assert (await read(mailbox)).seq == 2
        assert bus.statistics()["published"] == 0
        bus.publish(snapshot(it, 3))
        assert (await read(mailbox)).seq == 3
        assert bus.statistics()["published"] == 1
    assert bus.connected
