"""What a call leaves on the connections of its thread: noticed, and kept from other bodies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.db.backends.sqlite3.base import DatabaseWrapper

from rail_async_tasks.runtime.attempts.call_watch import CallWatch
from rail_async_tasks.runtime.attempts.orm_threads import OrmThread, Seat
from rail_async_tasks.runtime.attempts.threads import DaemonThreads
from tests.support.waiting import TIMEOUT, eventually


def close(lane: OrmThread) -> None:
    """Returns when the threads and their connections are gone."""
    for threads in lane.close():
        threads.shutdown(wait=True)


async def in_seat(seat: Seat, body: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Runs it as the body of an attempt that has this seat."""
    return await asyncio.get_running_loop().create_task(body(), context=seat.context())


SET = {"sqlite": "PRAGMA query_only = ON", "postgresql": "SET default_transaction_read_only = on"}


def set_read_only() -> None:
    with connection.cursor() as cursor:
        cursor.execute(SET[connection.vendor])


def is_read_only() -> bool:
    with connection.cursor() as cursor:
        show = {"sqlite": "PRAGMA query_only", "postgresql": "SHOW default_transaction_read_only"}
        cursor.execute(show[connection.vendor])
        return cursor.fetchone()[0] in {1, "on"}


async def test_a_body_finds_in_its_later_calls_what_it_has_set(database: Any) -> None:
    """And no other body does, though it runs at the same time."""
    lane = OrmThread(2)
    one, other = lane.enter("one"), lane.enter("other")
    done = asyncio.Event()

    async def sets() -> bool:
        await sync_to_async(set_read_only)()
        done.set()
        return await sync_to_async(is_read_only)()

    async def beside() -> bool:
        await Group.objects.aexists()
        await done.wait()
        return await sync_to_async(is_read_only)()

    assert await asyncio.gather(in_seat(one, sets), in_seat(other, beside)) == [True, False]
    one.leave()
    other.leave()
    close(lane)


async def test_a_body_that_reads_a_cursor_keeps_it(database: Any) -> None:
    """Another that leaves something on the connection takes neither thread nor cursor along."""
    await Group.objects.abulk_create([Group(name=str(number)) for number in range(3)])
    lane = OrmThread(2)
    one, other = lane.enter("one"), lane.enter("other")
    begun, over = asyncio.Event(), asyncio.Event()

    async def reads() -> list[str]:
        names = []
        async for group in Group.objects.order_by("name").aiterator(chunk_size=1):
            names.append(group.name)
            begun.set()
            await over.wait()
        return names

    async def sets() -> DaemonThreads | None:
        await begun.wait()
        await sync_to_async(set_read_only)()
        return other.threads

    reading = asyncio.ensure_future(in_seat(one, reads))
    threads = await in_seat(other, sets)
    other.leave()
    await eventually(threads.over.done)
    over.set()
    assert await reading == ["0", "1", "2"]
    one.leave()
    close(lane)


async def test_a_call_that_outlives_its_body_leaves_nothing(database: Any) -> None:
    """It is cleaned up after in the shared thread, of which no other body needs anything."""
    lane = OrmThread(2)
    gone = lane.enter("gone")
    entered, go = threading.Event(), threading.Event()

    def outlives() -> None:
        entered.set()
        assert go.wait(TIMEOUT)
        set_read_only()

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(sync_to_async(outlives)())

    late = await in_seat(gone, begin)
    await asyncio.to_thread(entered.wait, TIMEOUT)
    seat = lane.enter("next")
    gone.leave()
    go.set()
    await late

    async def look() -> bool:
        return await sync_to_async(is_read_only)()

    assert await in_seat(seat, look) is False
    assert gone.threads is None  # one of its own would never end
    seat.leave()
    close(lane)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_a_library_keeps_in_its_wrapper_of_a_connection_is_noticed(
    database: Any,
) -> None:
    """For which tenant it is, perhaps. What Django itself keeps there changes with each call."""

    class Wrapper(DatabaseWrapper):
        tenant: str | None

    wrapper = Wrapper(connection.settings_dict, connection.alias)
    wrapper.tenant = None
    before = connections[connection.alias]
    connections[connection.alias] = wrapper
    try:
        watch = CallWatch(is_wary=False)
        assert not Group.objects.exists()
        assert not watch.ended()
        watch = CallWatch(is_wary=False)
        wrapper.tenant = "acme"
        assert watch.ended()
    finally:
        wrapper.close()
        connections[connection.alias] = before


async def test_a_database_that_can_not_be_opened_is_no_matter_of_others() -> None:
    """Such as one whose driver is missing, which this process does not use."""
    connections.settings["broken"] = {**connections.settings["default"], "ENGINE": "no.such.engine"}
    lane = OrmThread(2)
    seat = lane.enter("a test")

    async def call() -> int:
        return await asyncio.wait_for(sync_to_async(int)(), TIMEOUT)

    try:
        assert await in_seat(seat, call) == 0
    finally:
        del connections.settings["broken"]
    seat.leave()
    close(lane)
