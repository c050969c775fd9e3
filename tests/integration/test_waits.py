"""Bodies that wait for other tasks: nothing that they wait for waits for them."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import anyio.to_thread
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import connections

from rail_async_tasks import TaskCancelled, task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.runtime.attempts.timings import ATTEMPT_TIMINGS
from tests.support.runtimes import Configure, in_memory
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]


class Meeting:
    """Bodies that wait until all are here, so that together they hold all slots."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)

    def wait(self) -> None:
        self._barrier.wait(TIMEOUT)


async def ends(handles: list[Any]) -> set[tuple[str, Any]]:
    found = [await final(handle) for handle in handles]
    return {(it.status, it.result) for it in found}


@pytest.mark.parametrize("how", ["result", "async_to_sync"])
async def test_a_body_waits_in_a_thread_for_a_child_that_uses_the_orm(
    configure: Configure, how: str, store: str
) -> None:
    """The parents hold every thread of ORM calls, and the children need one."""
    configure(max_workers=2)
    meeting = Meeting(2)

    @task(name="w.child")
    async def child() -> bool:
        return await sync_to_async(lambda: store == "memory" or not Group.objects.exists())()

    def wait() -> Any:
        meeting.wait()
        handle = child.enqueue()
        if how == "result":
            return handle.result(TIMEOUT)
        return async_to_sync(handle.aresult)(TIMEOUT)

    @task(name="w.parent", max_retries=0)
    async def parent() -> Any:
        return await sync_to_async(wait)()

    assert await ends([await parent.aenqueue() for _ in range(2)]) == {("completed", True)}


@pytest.mark.parametrize("depth", [1, 3])
async def test_def_bodies_that_hold_all_threads_wait_for_def_children(
    configure: Configure, depth: int
) -> None:
    """Children run beside `max_workers`, and so do theirs. Tasks without a waiter do not."""
    configure(max_workers=2)
    meeting = Meeting(2)
    running, most, lock = 0, 0, threading.Lock()

    @task(name="w.other")
    def other() -> None: ...

    @task(name="w.child")
    def child(depth: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        result = 1 if depth == 1 else 1 + child.enqueue(depth=depth - 1).result(TIMEOUT)
        with lock:
            running -= 1
        return result

    @task(name="w.parent", max_retries=0)
    def parent() -> Any:
        meeting.wait()
        return child.enqueue(depth=depth).result(TIMEOUT)

    handles = [await parent.aenqueue() for _ in range(2)]
    others = [await other.aenqueue() for _ in range(20)]
    assert await ends(handles) == {("completed", depth)}
    assert await ends(others) == {("completed", None)}
    assert most <= 2 * depth


@in_memory
@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_body_that_waits_for_many_exceeds_no_limit(
    configure: Configure, in_thread: bool
) -> None:
    """Children begin beside the limits in place of bodies that wait, never of those at work."""
    configure(max_workers=2, max_concurrency=3)
    children, running, most, lock = 12, 0, 0, threading.Lock()

    def enter() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)

    def leave() -> None:
        nonlocal running
        with lock:
            running -= 1

    @task(name="w.in_thread")
    def blocking() -> None:
        enter()
        time.sleep(0.05)  # longer than until the first look
        leave()

    @task(name="w.on_loop")
    async def awaiting() -> None:
        enter()
        await asyncio.sleep(2 * ATTEMPT_TIMINGS.wait_first_look)
        leave()

    @task(name="w.parent", max_retries=0)
    async def parent() -> None:
        child = blocking if in_thread else awaiting
        handles = [await child.aenqueue() for _ in range(children)]
        await asyncio.gather(*[it.aresult(TIMEOUT) for it in handles])

    assert await ends([await parent.aenqueue()]) == {("completed", None)}
    assert most <= (2 if in_thread else 3)


@in_memory
@pytest.mark.parametrize("setting", ["max_concurrency", "thread"])
async def test_async_bodies_that_hold_all_slots_wait_for_children(
    configure: Configure, setting: str
) -> None:
    """`await aresult()` too would wait for ever for a slot that only its own end frees."""
    if setting == "thread":
        configure(backend="thread", max_workers=2)
    else:
        configure(max_concurrency=2)
    begun = 0

    @task(name="w.child")
    async def child() -> int:
        return 7

    @task(name="w.parent", max_retries=0)
    async def parent() -> Any:
        nonlocal begun
        begun += 1
        await eventually(lambda: begun == 2)
        return await (await child.aenqueue()).aresult(TIMEOUT)

    assert await ends([await parent.aenqueue() for _ in range(2)]) == {("completed", 7)}
    runtime = host.current()
    assert runtime is not None
    assert runtime.slots.room("default", in_thread=False) == 2


@in_memory
async def test_a_wait_for_a_task_that_is_not_due_begins_nothing(configure: Configure) -> None:
    """Its time comes first, also with a waiter."""
    configure(max_concurrency=1)
    begun = asyncio.Event()

    @task(name="w.child")
    async def child() -> None:
        begun.set()

    @task(name="w.parent", max_retries=0)
    async def parent() -> bool:
        handle = await child.using(delay=timedelta(hours=1)).aenqueue()
        with pytest.raises(TimeoutError):
            await handle.aresult(3 * ATTEMPT_TIMINGS.wait_first_look)
        await handle.acancel()
        return begun.is_set()

    assert await ends([await parent.aenqueue()]) == {("completed", False)}


async def test_a_full_queue_in_which_all_wait_is_named(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """A queue's `concurrency` is not exceeded: the WARNING says what waits for what, and why."""
    configure(queues={"narrow": {"concurrency": 1}})

    @task(name="w.child", queue="narrow")
    async def child() -> None: ...

    @task(name="w.parent", queue="narrow", max_retries=0)
    async def parent() -> str:
        handle = await child.aenqueue()
        waiting = asyncio.ensure_future(handle.aresult(TIMEOUT))
        await eventually(lambda: "Deadlock?" in caplog.text)
        waiting.cancel()
        await asyncio.wait([waiting])
        return str(handle.id)

    with caplog.at_level(logging.WARNING):
        handle = await parent.aenqueue()
        snapshot = await final(handle)
    assert snapshot.status == "completed"
    (message,) = [it.getMessage() for it in caplog.records if "Deadlock?" in it.getMessage()]
    for part in ("w.parent", str(handle.id), "w.child", snapshot.result, "'narrow'", ".using("):
        assert part in message


def in_new_thread(call: Callable[[], Any]) -> Any:
    """Calls in a thread that does not have the caller's context, and waits for it."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join(TIMEOUT)
    return results[0]


async def in_default_executor(call: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, call)


ASYNC_WAYS: dict[str, Callable[[Any], Any]] = {
    "run_in_executor": lambda it: in_default_executor(partial(it.result, TIMEOUT)),
    "to_thread": lambda it: asyncio.to_thread(it.result, TIMEOUT),
    "anyio": lambda it: anyio.to_thread.run_sync(it.result, TIMEOUT),
    "sync_to_async": lambda it: sync_to_async(it.result, thread_sensitive=False)(TIMEOUT),
    "another loop": lambda it: in_default_executor(lambda: asyncio.run(it.aresult(TIMEOUT))),
    "another thread's call": lambda it: in_default_executor(
        lambda: async_to_sync(it.aresult)(TIMEOUT)
    ),
}


@in_memory
@pytest.mark.parametrize("way", ASYNC_WAYS)
async def test_an_async_body_waits_through_a_thread(configure: Configure, way: str) -> None:
    """It has made the handle, so it is known to wait where the thread lacks its context."""
    configure(max_concurrency=1)

    @task(name="w.child")
    async def child() -> int:
        return 7

    @task(name="w.parent", max_retries=0)
    async def parent() -> Any:
        return await ASYNC_WAYS[way](await child.aenqueue())

    assert await ends([await parent.aenqueue()]) == {("completed", 7)}


@in_memory
@pytest.mark.parametrize("way", ["pool", "thread"])
async def test_a_def_body_waits_through_threads_of_its_own(configure: Configure, way: str) -> None:
    """Its children run one at a time, in place of the one body that waits."""
    configure(max_workers=1)

    @task(name="w.child")
    def child(n: int) -> int:
        return n

    @task(name="w.parent", max_retries=0)
    def parent() -> Any:
        handles = child.enqueue_many({"n": n} for n in range(2))
        if way == "thread":
            return [in_new_thread(partial(it.result, TIMEOUT)) for it in handles]
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda it: it.result(TIMEOUT), handles))

    snapshot = await final(await parent.aenqueue())
    assert (snapshot.status, snapshot.result) == ("completed", [0, 1])


async def test_a_body_waits_for_a_pool_inside_an_orm_call(configure: Configure, store: str) -> None:
    """The call holds the one thread of ORM calls, and the child needs one."""
    configure(max_workers=1)

    @task(name="w.child")
    async def child() -> bool:
        return await sync_to_async(lambda: store == "memory" or not Group.objects.exists())()

    def wait(handle: Any) -> bool:
        try:
            return bool(handle.result(TIMEOUT))
        finally:
            connections.close_all()  # of the pool's thread

    def fan_out() -> list[bool]:
        handles = [child.enqueue() for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(wait, handles))

    @task(name="w.parent", max_retries=0)
    async def parent() -> Any:
        return await sync_to_async(fan_out)()

    snapshot = await final(await parent.aenqueue())
    assert (snapshot.status, snapshot.result) == ("completed", [True, True])


@in_memory
async def test_a_handle_that_a_body_has_made_can_be_copied_and_pickled(
    configure: Configure,
) -> None:
    """What another process can be given of it is its snapshot; the body that made it stays here."""

    @task(name="w.child")
    async def child() -> None: ...

    @task(name="w.parent", max_retries=0)
    async def parent() -> list[bool]:
        handle = await child.aenqueue()
        copies = copy.copy(handle), copy.deepcopy(handle), pickle.loads(pickle.dumps(handle))
        return [it.snapshot == handle.snapshot for it in copies]

    snapshot = await final(await parent.aenqueue())
    assert (snapshot.status, snapshot.result) == ("completed", [True] * 3)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [it.getMessage() for it in list(caplog.records)]
    return [it for it in messages if "Deadlock?" in it]


@in_memory
@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_thread_that_starts_and_awaits_a_task_is_named(
    configure: Configure, timings: Timings, caplog: pytest.LogCaptureFixture, in_thread: bool
) -> None:
    """Nothing says that the body waits for it; the WARNING names both, the task and the way out."""
    timings.set("attempts", wait_look_every=0.05, wait_report_after=0.2)
    configure(max_workers=1, max_concurrency=1)

    @task(name="w.on_loop")
    async def on_loop() -> None: ...

    @task(name="w.blocking")
    def blocking() -> None: ...

    child = blocking if in_thread else on_loop

    started: list[Any] = []

    def start_and_wait() -> None:
        started.append(child.enqueue())
        with pytest.raises(TaskCancelled):
            started[0].result(TIMEOUT)

    @task(name="w.waits_on_loop", max_retries=0)
    async def waits_on_loop() -> None:
        with ThreadPoolExecutor(1, "fan-out") as pool:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(pool, start_and_wait)

    @task(name="w.waits_blocking", max_retries=0)
    def waits_blocking() -> None:
        with ThreadPoolExecutor(1, "fan-out") as pool:
            pool.submit(start_and_wait).result(TIMEOUT)

    with caplog.at_level(logging.WARNING):
        handle = await (waits_blocking if in_thread else waits_on_loop).aenqueue()
        await eventually(lambda: warnings(caplog))
        await started[0].acancel()
        assert (await final(handle)).status == "completed"
    (message,) = warnings(caplog)
    setting = "max_workers" if in_thread else "max_concurrency"
    named = ("'fan-out_0'", child.definition.name, str(started[0].id), str(handle.id))
    for part in (*named, f"({setting})", "hand the handle to the thread", "asyncio.to_thread()"):
        assert part in message
