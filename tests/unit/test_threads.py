"""The runtime's threads: reused, limited, no hindrance to the exit; their connections."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from rail_async_tasks.runtime.threads import (
    DaemonThreads,
    OrmLane,
    OrmLanes,
    with_fresh_connections,
)


def me() -> threading.Thread:
    return threading.current_thread()


def test_a_thread_is_reused() -> None:
    """One call after the other runs in one thread, which is a daemon with a telling name."""
    threads = DaemonThreads("test-pool")
    used = {threads.submit(me).result(5) for _ in range(5)}
    threads.shutdown()
    assert len({it.name for it in used}) == 1
    assert all(it.daemon and it.name.startswith("test-pool-") for it in used)


def test_calls_at_once_get_a_thread_each() -> None:
    """Without a limit nobody waits: here all wait for each other."""
    threads = DaemonThreads("test-pool")
    barrier = threading.Barrier(8)
    calls = [threads.submit(barrier.wait, 5) for _ in range(8)]
    assert sorted(call.result(5) for call in calls) == list(range(8))
    threads.shutdown()


def test_a_limit_holds_and_the_rest_waits_its_turn() -> None:
    """In the order of submission."""
    threads = DaemonThreads("test-pool", limit=2)
    go, started, order = threading.Event(), threading.Semaphore(0), []

    def call(n: int) -> str:
        order.append(n)
        started.release()
        assert go.wait(5)
        return me().name

    calls = [threads.submit(call, n) for n in range(6)]
    for _ in range(2):
        assert started.acquire(timeout=5)
    assert sorted(order) == [0, 1]
    go.set()
    assert len({it.result(5) for it in calls}) == 2
    assert sorted(order[2:4]) == [2, 3]
    threads.shutdown()


def test_errors_and_arguments_pass_through() -> None:
    """Also one that is no Exception; the thread goes on."""
    threads = DaemonThreads("test-pool", limit=1)
    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
    assert threads.submit(dict, a=1).result(5) == {"a": 1}

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        threads.submit(leave).result(5)
    assert threads.submit(abs, -1).result(5) == 1
    threads.shutdown()


def test_a_call_that_was_cancelled_in_line_is_not_made() -> None:
    """What waits behind it is."""
    threads = DaemonThreads("test-pool", limit=1)
    go = threading.Event()
    first: Future[bool] = threads.submit(go.wait, 5)
    made: list[int] = []
    second = threads.submit(made.append, 2)
    third = threads.submit(made.append, 3)
    assert second.cancel()
    go.set()
    assert first.result(5)
    third.result(5)
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
    threads.submit(id, big).result(5)
    del big
    assert gone.wait(5)
    threads.shutdown()


def test_shutdown_ends_the_threads() -> None:
    """After the call that they are in."""
    threads = DaemonThreads("test-pool")
    go = threading.Event()
    busy: Future[bool] = threads.submit(go.wait, 5)
    idle = threads.submit(me).result(5)
    threads.shutdown()
    idle.join(5)
    assert not idle.is_alive()
    go.set()
    assert busy.result(5)


# --- connections ----------------------------------------------------------------------------------


def test_connections_are_looked_at_around_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after, also when the call fails: Django does it around requests only."""
    seen: list[str] = []
    module = "rail_async_tasks.runtime.threads.close_old_connections"
    monkeypatch.setattr(module, lambda: seen.append("look"))
    assert with_fresh_connections(lambda: seen.append("call") or 7) == 7
    with pytest.raises(ZeroDivisionError):
        with_fresh_connections(lambda: 1 // 0)
    assert seen == ["look", "call", "look", "look", "look"]


def test_a_threads_connections_end_with_it(database: Any) -> None:
    """None is left open behind a pool that was shut down."""
    threads = DaemonThreads("test-pool", limit=1)

    def use() -> Any:
        connection.ensure_connection()
        # The wrapper may be closed by its own thread only; here it is looked at, no more.
        return me(), connection._connections[connection._alias]

    thread, wrapper = threads.submit(use).result(5)
    assert wrapper.connection is not None
    threads.shutdown()
    thread.join(5)
    assert wrapper.connection is None


async def test_orm_calls_of_an_attempt_run_in_its_lane() -> None:
    """`sync_to_async` in the lane's context goes to the lane's one thread."""
    lane = OrmLane(7)
    context = lane.enter()

    async def body() -> set[str]:
        return {(await sync_to_async(me)()).name for _ in range(3)}

    import asyncio

    (name,) = await asyncio.get_running_loop().create_task(body(), context=context)
    assert name.startswith("rail-tasks-orm-7")
    lane.leave()
    lane.close()


def test_attempts_go_to_the_least_busy_lane() -> None:
    """So that they spread evenly."""
    lanes = OrmLanes(3)
    chosen = []
    for _ in range(6):
        lane = lanes.least_busy()
        lane.enter()
        chosen.append(lane)
    assert sorted(lane.attempts for lane in chosen[:3]) == [2, 2, 2]
    chosen[1].leave()
    assert lanes.least_busy() is chosen[1]
    lanes.close()


def test_an_idle_lane_gives_its_connections_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only once nobody uses it, only if it was used, and in its own thread."""
    seen: list[tuple[str, str]] = []
    module = "rail_async_tasks.runtime.threads"
    for name in ("close_old_connections", "_drop_broken"):
        monkeypatch.setattr(f"{module}.{name}", lambda name=name: seen.append((name, me().name)))
    lane = OrmLane(8)
    lane.enter()
    lane.enter()
    lane.enter()
    lane.leave()
    assert lane.submit(lambda: list(seen)).result(5) == []
    lane.leave()
    assert [it[0] for it in lane.submit(lambda: list(seen)).result(5)] == ["_drop_broken"]
    lane.leave()
    after = lane.submit(lambda: list(seen)).result(5)
    assert [it[0] for it in after] == ["_drop_broken", "close_old_connections"]
    assert all(name.startswith("rail-tasks-orm-8") for _, name in after)
    lane.close()


def test_the_last_to_leave_a_lane_gives_back_what_others_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has left before: a pool would miss its connection."""
    given_back: list[str] = []
    module = "rail_async_tasks.runtime.threads"
    monkeypatch.setattr(f"{module}.close_old_connections", lambda: given_back.append("all"))
    lane = OrmLane(9)
    lane.enter()
    lane.enter()
    lane.submit(lambda: None).result(5)
    lane.leave()
    assert lane._threads.submit(lambda: list(given_back)).result(5) == []
    lane.leave()
    assert lane._threads.submit(lambda: list(given_back)).result(5) == ["all"]
    lane.enter()
    lane.leave()  # has used nothing
    assert lane._threads.submit(lambda: list(given_back)).result(5) == ["all"]
    lane.close()
