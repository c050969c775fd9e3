"""Queues that are paused and resumed while runtimes work, on every store."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction

from rail_async_tasks import InvalidArguments, Task, UnknownQueue, queues, task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting.making import make_ledger
from rail_async_tasks.models import TaskExecution
from tests.support.runtimes import Configure, on_databases, other_process
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]


def declared(**options: Any) -> Task:
    @task(name="pauses.noop", queue="low", **options)
    async def noop() -> str:
        return "done"

    return noop


async def row(name: str = "low") -> queues.Queue:
    return next(it for it in await queues.alist() if it.name == name)


@pytest.mark.parametrize("backend", ["asyncio", "thread"])
async def test_a_paused_queue_accepts_and_does_not_start(
    store: str, configure: Configure, backend: str
) -> None:
    """Also right after the pause; other queues go on, and a resume starts what waits."""
    configure(backend=backend)
    noop = declared()
    assert (await final(await noop.aenqueue())).status == "completed"  # the runtime runs
    assert await queues.apause("low", by="7")
    handles = [await noop.aenqueue() for _ in range(3)]
    other = await final(await noop.using(queue="high").aenqueue())
    assert other.status == "completed"
    for handle in handles:
        await handle.arefresh()
        assert handle.status == "pending"
    low = await row()
    assert (low.paused, low.paused_by, low.pending, low.running) == (True, "7", 3, 0)
    assert low.oldest_seconds is not None
    assert await queues.aresume("low")
    for handle in handles:
        assert (await final(handle)).attempts == 1
    assert not (await row()).paused


async def test_tasks_that_run_go_on_to_their_end(store: str, configure: Configure) -> None:
    """A retry of one waits for the resume."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    @task(name="pauses.long", queue="low", max_retries=1)
    async def long(info: Any) -> str:
        begun.set()
        await go_on.wait()
        if info.context.task.attempt == 1:
            raise ValueError("once")
        return "done"

    handle = await long.aenqueue()
    await asyncio.wait_for(begun.wait(), TIMEOUT)
    await queues.apause("low")
    go_on.set()

    async def retrying() -> bool:
        await handle.arefresh()
        return handle.status == "retrying"

    await eventually(retrying)
    assert (await row()).retrying == 1
    await queues.aresume("low")
    assert (await final(handle)).attempts == 2


async def test_unknown_queues_are_refused(store: str, configure: Configure) -> None:
    """The message names the known ones; so is a name that can't be stored."""
    with pytest.raises(
        UnknownQueue, match=r"'lwo'\. Did you mean 'low'\? Known are .*default, high, low\b"
    ):
        await queues.apause("lwo")
    with pytest.raises(UnknownQueue, match="Did you mean 'high'"):
        await queues.aresume("hihg")
    with pytest.raises(UnknownQueue) as far:
        await queues.aresume("zzzzz")
    assert "Did you mean" not in str(far.value)
    with pytest.raises(InvalidArguments, match="by must be"):
        await queues.apause("low", by="\0")
    assert not (await row()).paused


@on_databases
async def test_a_queue_that_only_rows_name_can_be_paused(store: str, configure: Configure) -> None:
    """Tasks that a release before has left behind may be what must not start."""
    noop = declared()
    await queues.apause("low")
    handle = await noop.aenqueue()
    here = host.current()
    assert here is not None
    await here.caught_up()  # no claim is under way that does not know of the next pause
    await TaskExecution.objects.filter(id=handle.id).aupdate(queue="old")
    assert await queues.apause("old")
    await queues.aresume("low")
    assert (await row("old")).pending == 1
    assert await queues.aresume("old")


@on_databases
async def test_a_pause_is_part_of_the_callers_transaction(store: str, configure: Configure) -> None:
    """Rolled back with it."""

    def pause() -> None:
        with transaction.atomic():
            queues.pause("low")
            transaction.set_rollback(True)

    await sync_to_async(pause)()
    assert not (await row()).paused


@on_databases
async def test_a_process_that_starts_later_heeds_the_pause(
    store: str, configure: Configure, runtimes: AsyncExitStack
) -> None:
    """Before its first claim."""
    await queues.apause("low")
    handle = await declared().aenqueue()
    await host.astop()  # the process that has paused it is gone
    there = await other_process(runtimes)
    await there.caught_up()
    await asyncio.wait_for(there.services.due.caught_up(), TIMEOUT)
    await handle.arefresh()
    assert handle.status == "pending"
    assert there.paused_queues == ["low"]
    await sync_to_async(queues.resume)("low")

    async def completed() -> bool:
        return (await handle.arefresh()).status == "completed"

    await eventually(completed)


@pytest.mark.long  # tests/faults/test_pauses.py and tests/backends/test_pauses.py have processes
@on_databases
async def test_pause_under_load(store: str, configure: Configure, runtimes: AsyncExitStack) -> None:
    """1,000 tasks wait and two runtimes work: none starts once these have read of the pause.

    tests/runtime/test_pauses.py turns a clock to see that they read in time.
    """
    configure(max_concurrency=2)

    @task(name="pauses.slow", queue="low")
    async def slow() -> None:
        await asyncio.sleep(0.02)

    await slow.aenqueue_many([{}] * 1000)
    there = await other_process(runtimes)
    rows = TaskExecution.objects.filter(name="pauses.slow")
    started = rows.filter(attempts__gte=1)
    here = host.current()
    assert here is not None
    await eventually(lambda: here.slots.running and there.slots.running)
    # As another process does: no runtime gets a signal.
    await sync_to_async(make_ledger().pause_queue)("low", None)
    await eventually(lambda: here.paused_queues and there.paused_queues)
    # A claim that was under way then has been answered, and what it claimed ends: that frees the
    # slots that a dispatcher claims for.
    for runtime in (here, there):
        runtime.services.due.look_everywhere()
        await runtime.caught_up()
    await eventually(lambda: not here.slots.running and not there.slots.running)
    before = await started.acount()
    assert before < 1000
    for runtime in (here, there):
        for _ in range(3):
            runtime.services.due.look_everywhere()
            await runtime.caught_up()
    assert await started.acount() == before
    await queues.aresume("low")
    await eventually(lambda: here.slots.running)
    await eventually(lambda: there.slots.running)
    assert await rows.filter(attempts__gte=2).acount() == 0
    done = rows.filter(status="completed")

    async def all_done() -> bool:
        return await done.acount() == 1000

    await eventually(all_done, timeout=60, every=0.2)


async def test_a_wait_for_a_task_of_a_paused_queue_is_reported(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of the queue starts for the body that waits, either."""
    configure(max_concurrency=1)
    noop = declared()

    @task(name="pauses.waits", queue="high")
    async def waits() -> str:
        return await (await noop.aenqueue()).aresult()  # type: ignore[no-any-return]

    await queues.apause("low")
    handle = await waits.aenqueue()
    await eventually(lambda: "the queue 'low' is paused" in caplog.text)
    await queues.aresume("low")
    assert (await final(handle)).result == "done"
