"""The runtime's threads: reused, limited, no hindrance to the exit; their connections."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, transaction

from rail_async_tasks.runtime.attempts.orm_threads import (
    OrmThread,
    OrmThreads,
    Seat,
    keep_thread_while_waiting,
)
from rail_async_tasks.runtime.attempts.threads import DaemonThreads, leaving_nothing, threads_ended
from tests.support.waiting import TIMEOUT, eventually


def me() -> threading.Thread:
    return threading.current_thread()


def close(lanes: OrmThread | OrmThreads) -> None:
    """Returns when the threads and their connections are gone."""
    for threads in lanes.close():
        threads.shutdown(wait=True)


def test_a_thread_is_reused() -> None:
    """One call after the other runs in one thread, which is a daemon with a name of its own."""
    threads = DaemonThreads("test-pool")
    used = {threads.submit(me).result(TIMEOUT) for _ in range(5)}
    threads.shutdown()
    assert len({it.name for it in used}) == 1
    assert all(it.daemon and it.name.startswith("test-pool-") for it in used)


def test_calls_at_once_get_a_thread_each() -> None:
    """Without a limit no body waits: here all wait for each other."""
    threads = DaemonThreads("test-pool")
    barrier = threading.Barrier(8)
    calls = [threads.submit(barrier.wait, TIMEOUT) for _ in range(8)]
    assert sorted(call.result(TIMEOUT) for call in calls) == list(range(8))
    threads.shutdown()


def test_a_limit_holds_and_the_rest_waits_its_turn() -> None:
    """In the order of submission."""
    threads = DaemonThreads("test-pool", limit=2)
    go, started, order = threading.Event(), threading.Semaphore(0), []

    def call(n: int) -> str:
        order.append(n)
        started.release()
        assert go.wait(TIMEOUT)
        return me().name

    calls = [threads.submit(call, n) for n in range(6)]
    for _ in range(2):
        assert started.acquire(timeout=TIMEOUT)
    assert sorted(order) == [0, 1]
    go.set()
    assert len({it.result(TIMEOUT) for it in calls}) == 2
    assert sorted(order[2:4]) == [2, 3]
    threads.shutdown()


def test_errors_and_arguments_pass_through() -> None:
    """Also one that is no Exception; the thread goes on."""
    threads = DaemonThreads("test-pool", limit=1)
    assert threads.submit(divmod, 7, 2).result(TIMEOUT) == (3, 1)
    assert threads.submit(dict, a=1).result(TIMEOUT) == {"a": 1}

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        threads.submit(leave).result(TIMEOUT)
    assert threads.submit(abs, -1).result(TIMEOUT) == 1
    threads.shutdown()


def test_a_call_that_was_cancelled_in_line_is_not_made() -> None:
    """Calls that wait behind it are."""
    threads = DaemonThreads("test-pool", limit=1)
    go = threading.Event()
    first: Future[bool] = threads.submit(go.wait, TIMEOUT)
    made: list[int] = []
    second = threads.submit(made.append, 2)
    third = threads.submit(made.append, 3)
    assert second.cancel()
    go.set()
    assert first.result(TIMEOUT)
    third.result(TIMEOUT)
    assert made == [3]
    with pytest.raises(CancelledError):
        second.result(0)
    threads.shutdown()


def test_an_idle_thread_keeps_nothing_alive() -> None:
    """Neither the call's arguments nor its result."""

    class Big:
        pass

    threads = DaemonThreads("test-pool", limit=1)
    big = Big()
    gone = threading.Event()
    weakref.finalize(big, gone.set)
    threads.submit(id, big).result(TIMEOUT)
    del big
    assert gone.wait(TIMEOUT)
    threads.shutdown()


@pytest.mark.parametrize("calls", [0, 1])
def test_shutdown_waits_where_it_is_asked_to(database: Any, calls: int) -> None:
    """For the call, for the end of the thread, and for its connection."""
    threads = DaemonThreads("test-pool")

    def use() -> Any:
        connection.ensure_connection()
        return me(), connection._connections[connection._alias]

    used = [threads.submit(use) for _ in range(calls)]
    threads.shutdown(wait=True)
    for call in used:
        thread, wrapper = call.result(0)
        thread.join(TIMEOUT)  # its last step comes after its last connection
        assert wrapper.connection is None
        assert not thread.is_alive()


async def test_threads_that_are_busy_are_left_behind_after_the_timeout() -> None:
    """The others end."""
    busy, idle, go = DaemonThreads("busy"), DaemonThreads("idle"), threading.Event()
    call = busy.submit(go.wait, TIMEOUT)
    thread = idle.submit(me).result(TIMEOUT)
    await threads_ended([busy, idle], 0.05)
    assert not busy.over.done()
    await eventually(idle.over.done)
    go.set()
    assert call.result(TIMEOUT)
    await threads_ended([busy], TIMEOUT)
    assert busy.over.done()
    thread.join(TIMEOUT)


def test_shutdown_ends_the_threads() -> None:
    """After the call that they are in."""
    threads = DaemonThreads("test-pool")
    go = threading.Event()
    busy: Future[bool] = threads.submit(go.wait, TIMEOUT)
    idle = threads.submit(me).result(TIMEOUT)
    threads.shutdown()
    idle.join(TIMEOUT)
    assert not idle.is_alive()
    go.set()
    assert busy.result(TIMEOUT)


# --- connections ----------------------------------------------------------------------------------


def test_a_call_leaves_no_connection_behind(database: Any) -> None:
    """It is closed after the call, also when that fails, and its wrapper is another one then."""

    def use(fail: bool) -> Any:
        connection.ensure_connection()
        used.append(connection._connections[connection._alias])
        if fail:
            raise ZeroDivisionError

    used: list[Any] = []
    threads = DaemonThreads("test-pool", limit=1)
    for fail in (False, True):
        with suppress(ZeroDivisionError):
            threads.submit(leaving_nothing, partial(use, fail), "a test").result(TIMEOUT)
    threads.shutdown()
    assert [it.connection for it in used] == [None, None]
    assert used[0] is not used[1]


def test_a_transaction_that_is_left_open_is_rolled_back_with_a_warning(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It names who has left it, the database, and what to write instead."""
    threads = DaemonThreads("test-pool", limit=1)
    run = partial(leaving_nothing, lambda: transaction.atomic().__enter__(), "Task t (7)")
    threads.submit(run).result(TIMEOUT)
    threads.shutdown()
    (record,) = [it for it in caplog.records if "Task t (7)" in it.getMessage()]
    assert record.levelname == "WARNING"
    for part in ("'default'", "rolled back", "with transaction.atomic():"):
        assert part in record.getMessage()


def test_a_threads_connections_end_with_it(database: Any) -> None:
    """None is left open behind a pool that was shut down."""
    threads = DaemonThreads("test-pool", limit=1)

    def use() -> Any:
        connection.ensure_connection()
        # The wrapper may be closed by its own thread only; here it is looked at, no more.
        return me(), connection._connections[connection._alias]

    thread, wrapper = threads.submit(use).result(TIMEOUT)
    assert wrapper.connection is not None
    threads.shutdown()
    thread.join(TIMEOUT)
    assert wrapper.connection is None


async def in_seat(seat: Seat, body: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Runs it as the body of an attempt that has this seat."""
    return await asyncio.get_running_loop().create_task(body(), context=seat.context())


async def thread_of_call() -> str:
    return (await sync_to_async(me)()).name


async def test_orm_calls_of_an_attempt_run_in_its_lane() -> None:
    """`sync_to_async` in the seat's context goes to the lane's one thread."""
    lane = OrmThread(7)
    seat = lane.enter("a test")

    async def body() -> set[str]:
        return {await thread_of_call() for _ in range(3)}

    (name,) = await in_seat(seat, body)
    assert name.startswith("rail-tasks-orm-7")
    seat.leave()
    close(lane)


def test_attempts_go_to_the_least_busy_lane() -> None:
    """So that they spread evenly."""
    lanes = OrmThreads(3)
    chosen, seats = [], []
    for _ in range(6):
        lane = lanes.least_busy()
        seats.append(lane.enter("a test"))
        chosen.append(lane)
    assert sorted(lane.attempts for lane in chosen[:3]) == [2, 2, 2]
    seats[1].leave()
    assert lanes.least_busy() is chosen[1]
    close(lanes)


def test_an_idle_lane_gives_its_connections_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its last seat is left, only if it was used since, and in its own thread."""
    seen: list[str] = []
    monkeypatch.setattr(
        "rail_async_tasks.runtime.attempts.orm_threads.give_back",
        lambda who: seen.append(me().name),
    )
    lane = OrmThread(8)
    seats = [lane.enter("a test") for _ in range(2)]
    lane.submit(lambda: None).result(TIMEOUT)
    seats[0].leave()
    assert lane.submit(lambda: list(seen)).result(TIMEOUT) == []
    seats[1].leave()
    (name,) = lane.submit(lambda: list(seen)).result(TIMEOUT)
    assert name.startswith("rail-tasks-orm-8")
    close(lane)


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_a_broken_connection_of_a_lane_is_replaced_after_the_call(database: Any) -> None:
    """The next call, another body's perhaps, finds one that works."""
    lane = OrmThread(6)
    seat = lane.enter("a test")

    def break_it() -> None:
        connection.ensure_connection()
        connection.connection.close()
        with suppress(DatabaseError):
            Group.objects.exists()

    async def body() -> bool:
        await sync_to_async(break_it)()
        return await Group.objects.aexists()

    assert await in_seat(seat, body) is False
    seat.leave()
    close(lane)


def test_the_last_to_leave_a_lane_gives_back_what_others_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pool would miss a connection that a body has used which left before."""
    given_back: list[object] = []
    monkeypatch.setattr(
        "rail_async_tasks.runtime.attempts.orm_threads.give_back", given_back.append
    )
    lane = OrmThread(9)
    first, second = lane.enter("a test"), lane.enter("a test")
    lane.submit(lambda: None).result(TIMEOUT)
    first.leave()
    assert lane._threads.submit(lambda: len(given_back)).result(TIMEOUT) == 0
    second.leave()
    assert lane._threads.submit(lambda: len(given_back)).result(TIMEOUT) == 1
    lane.enter("a test").leave()  # has used nothing
    assert lane._threads.submit(lambda: len(given_back)).result(TIMEOUT) == 1
    close(lane)


# --- a thread of one's own ------------------------------------------------------------------------


async def test_a_transaction_across_calls_takes_its_thread_out_of_the_lane(database: Any) -> None:
    """Other bodies go on in a new thread, on a connection that is in no transaction."""
    lane = OrmThread(5)
    one, other = lane.enter("one"), lane.enter("other")
    begun, seen = asyncio.Event(), asyncio.Event()

    async def in_transaction() -> list[str]:
        atomic = transaction.atomic()
        names = [await thread_of_call()]
        await sync_to_async(atomic.__enter__)()
        await Group.objects.acreate(name="kept")
        begun.set()
        await seen.wait()
        names.append(await thread_of_call())
        await sync_to_async(atomic.__exit__)(None, None, None)
        return names

    async def beside() -> tuple[bool, bool]:
        await begun.wait()
        inside = await sync_to_async(lambda: connection.in_atomic_block)()
        visible = await Group.objects.aexists()
        seen.set()
        return inside, visible

    names, (inside, visible) = await asyncio.gather(
        in_seat(one, in_transaction), in_seat(other, beside)
    )
    assert names[0] == names[1]
    assert (inside, visible) == (False, False)
    one.leave()
    other.leave()
    close(lane)
    assert await Group.objects.aexists()


async def test_a_transaction_that_a_seat_leaves_is_rolled_back(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """By its thread, which ends. The lane's next body finds a connection of its own."""
    lane = OrmThread(4)
    seat = lane.enter("Task t (8)")
    own: list[threading.Thread] = []

    async def leave_open() -> None:
        await sync_to_async(transaction.atomic().__enter__)()
        await sync_to_async(Group.objects.create)(name="lost")
        own.append(await sync_to_async(me)())

    await in_seat(seat, leave_open)
    seat.leave()
    await asyncio.to_thread(own[0].join, TIMEOUT)
    assert "Task t (8) ended in an open transaction" in caplog.text
    seat = lane.enter("next")

    async def count() -> int:
        return await Group.objects.acount()

    assert await in_seat(seat, count) == 0
    seat.leave()
    close(lane)


async def test_a_body_that_waits_inside_a_call_does_not_hold_up_the_lane() -> None:
    """Calls that wait behind its call go on elsewhere, in order."""
    lane = OrmThread(3)
    one, other = lane.enter("one"), lane.enter("other")
    go, entered = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> bool:
        keep_thread_while_waiting()
        loop.call_soon_threadsafe(entered.set)
        return go.wait(TIMEOUT)

    async def blocks() -> bool:
        return await sync_to_async(wait)()

    async def beside() -> list[int]:
        calls = [sync_to_async(order.append)(number) for number in range(3)]
        await asyncio.gather(*calls)
        return order

    order: list[int] = []
    blocked = asyncio.ensure_future(in_seat(one, blocks))
    beside_it = asyncio.ensure_future(in_seat(other, beside))
    await entered.wait()
    assert await asyncio.wait_for(beside_it, TIMEOUT) == [0, 1, 2]
    go.set()
    assert await blocked
    one.leave()
    other.leave()
    close(lane)
