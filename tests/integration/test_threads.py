"""A runtime in a loop thread of its own: for code that has no event loop, and as a backend."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import connections, transaction

from rail_async_tasks import TaskCancelled, TaskFailed, TaskNotFound, WouldWaitForever, task
from rail_async_tasks.hosting import process as host
from tests.support.runtimes import Configure, on_databases
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.turns("store")


def test_enqueue_without_a_loop(configure: Configure) -> None:
    """`enqueue()` in a plain thread hosts the runtime in a loop thread; `result()` waits."""

    @task(name="h.double")
    async def double(number: int) -> list[Any]:
        return [2 * number, threading.current_thread().name]

    handles = [double.enqueue(number=number) for number in range(5)]
    assert handles[0].status == "pending"
    results = [handle.result(TIMEOUT) for handle in handles]
    assert [result[0] for result in results] == [0, 2, 4, 6, 8]
    assert {result[1] for result in results} == {"rail-tasks-loop"}


def test_errors_and_cancels_without_a_loop(configure: Configure) -> None:
    """As from a loop: `TaskFailed` has the error, `TaskCancelled` says so, waiting has an end."""
    entered = threading.Event()

    @task(name="h.breaks", max_retries=0)
    def breaks() -> None:
        raise ValueError("no")

    @task(name="h.endless")
    async def endless() -> None:
        entered.set()
        await asyncio.Event().wait()

    with pytest.raises(TaskFailed, match="no"):
        breaks.enqueue().result(TIMEOUT)
    handle = endless.enqueue()
    assert entered.wait(TIMEOUT)
    with pytest.raises(TimeoutError, match=r"h\.endless .* after 0\.05 s, and goes on"):
        handle.result(0.05)
    handle.cancel()
    with pytest.raises(TaskCancelled):
        handle.result(TIMEOUT)


def test_many_threads_share_one_runtime(configure: Configure) -> None:
    """All of them enqueue at once, the first time too."""
    seen: Counter[int] = Counter()

    @task(name="h.shared")
    async def shared(number: int) -> int:
        seen[number] += 1
        return number

    barrier, results = threading.Barrier(8), []

    def enqueue_some(which: int) -> None:
        barrier.wait(TIMEOUT)
        handles = [shared.enqueue(number=which * 10 + number) for number in range(10)]
        results.extend(handle.result(TIMEOUT) for handle in handles)
        connections.close_all()  # this thread's, as every thread must that uses the ORM

    threads = [threading.Thread(target=enqueue_some, args=(which,)) for which in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(results) == list(range(80))
    assert seen == Counter(range(80))


@on_databases
def test_nothing_starts_before_the_commit(configure: Configure, store: str) -> None:
    """The row is part of the caller's transaction: it starts after it, or never was."""
    found = []

    @task(name="h.after_commit")
    def look(name: str) -> bool:
        found.append(name)
        return Group.objects.filter(name=name).exists()

    with transaction.atomic():
        handle = look.enqueue(name="kept")
        Group.objects.create(name="kept")
        assert host.current() is None or not host.current().attempts  # type: ignore[union-attr]
    assert handle.result(TIMEOUT) is True
    with transaction.atomic():
        look.enqueue(name="lost")
        transaction.set_rollback(True)
    assert look.enqueue(name="kept").result(TIMEOUT) is True
    assert found == ["kept", "kept"]


@on_databases
def test_a_wait_for_what_the_own_transaction_holds_back_is_refused(
    configure: Configure, store: str
) -> None:
    """The task begins after the commit, and the wait comes before it: the error says so at once."""

    @task(name="h.held_back")
    def held_back() -> int:
        return 1

    with transaction.atomic():
        handle = held_back.enqueue()
        with pytest.raises(WouldWaitForever) as refused:
            handle.result()
        with pytest.raises(WouldWaitForever, match="after the commit"):
            async_to_sync(handle.aresult)()
        with transaction.atomic(), pytest.raises(WouldWaitForever):
            handle.result()
    for part in ("h.held_back", str(handle.id), "transaction", "rail_tasks.run()", '"sync"'):
        assert part in str(refused.value)
    assert handle.result(TIMEOUT) == 1


@on_databases
def test_a_wait_for_a_task_of_an_earlier_transaction_is_not_refused(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """It may end while this transaction is open; a WARNING says what could keep it from that."""

    @task(name="h.earlier")
    async def earlier() -> int:
        await asyncio.sleep(0.01)
        return 1

    with transaction.atomic():
        lost = earlier.enqueue()
        transaction.set_rollback(True)
    with transaction.atomic():
        handle = earlier.enqueue()
    with transaction.atomic():
        with pytest.raises(TaskNotFound):
            lost.result()
        # On SQLite the open transaction may hold the only write lock.
        with contextlib.suppress(TimeoutError):
            handle.result(0.05)
    assert handle.result(TIMEOUT) == 1
    messages = [it.getMessage() for it in caplog.records if "Deadlock?" in it.getMessage()]
    assert len(messages) >= 1
    for part in ("h.earlier", str(handle.id), "transaction", "after"):
        assert part in messages[-1]


def test_the_runtime_starts_again_after_it_was_stopped(configure: Configure) -> None:
    """The next use starts another, which works as long as the first."""

    @task(name="h.again")
    async def again(number: int) -> int:
        return number

    for _ in range(2):
        for number in range(5):
            assert again.enqueue(number=number).result(TIMEOUT) == number
        host.stop()


@pytest.mark.usefixtures("ends_cleanly", "loop_kind")
async def test_from_a_loop_into_the_loop_thread(configure: Configure) -> None:
    """A runtime that lives in a thread is used from other loops."""
    await asyncio.to_thread(host.runtime_in_thread)

    @task(name="h.elsewhere")
    async def elsewhere() -> str:
        return threading.current_thread().name

    handle = await elsewhere.aenqueue()
    assert await handle.aresult(TIMEOUT) == "rail-tasks-loop"
    assert (await handle.arefresh()).status == "completed"


@pytest.mark.usefixtures("ends_cleanly", "loop_kind")
async def test_the_thread_backend(configure: Configure) -> None:
    """Tasks of both kinds run beside the caller's loop, `max_workers` at once."""
    configure(backend="thread", max_workers=2)
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2)  # of four bodies: they meet in pairs
    homes: set[int] = set()

    def enter() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)

    def leave() -> None:
        nonlocal running
        with lock:
            running -= 1

    @task(name="h.blocks")
    async def blocks() -> None:
        enter()
        homes.add(threading.get_ident())
        # It is its own loop that a careless body blocks, not the caller's.
        time.sleep(0.05)  # noqa: ASYNC251
        await asyncio.sleep(0.01)
        leave()

    @task(name="h.blocks_too")
    def blocks_too() -> None:
        enter()
        both.wait(TIMEOUT)
        leave()

    handles = [await declared.aenqueue() for declared in [blocks, blocks_too] * 4]
    for handle in handles:
        await handle.aresult(TIMEOUT)
    assert most == 2
    assert len(homes) == 1
    assert threading.get_ident() not in homes
