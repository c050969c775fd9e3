"""Bodies that wait for other tasks: nothing that they wait for waits for them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group

from rail_async_tasks import task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.runtime.attempts.timings import ATTEMPT_TIMINGS
from tests.support.runtimes import Configure, in_memory
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
