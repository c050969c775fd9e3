"""Observers get all that this process enqueues and runs, under every backend and store."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models import QuerySet

from rail_async_tasks import TaskHandle, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.runtime import observers
from tests.support.recorder import Broken, Recorder
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.waiting import TIMEOUT, eventually, final, until_status

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])


@BACKENDS
async def test_a_task_that_succeeds(configure: Configure, recorder: Recorder, backend: str) -> None:
    """Enqueued, started, ended, with the seconds that its body took."""
    configure(backend=backend)

    @task(name="o.nap")
    async def nap() -> None:
        await asyncio.sleep(0.05)

    await final(await nap.aenqueue())
    await eventually(lambda: len(recorder.seen) == 3)
    assert recorder.events == [
        ("enqueued", "pending"), ("started", "running"), ("ended", "completed"),
    ]  # fmt: skip
    _, _, seconds, traceback = recorder.last("ended")
    assert 0.05 <= seconds < TIMEOUT
    assert traceback is None


@BACKENDS
async def test_a_task_that_is_retried_and_fails(
    configure: Configure, recorder: Recorder, backend: str
) -> None:
    """Each attempt is reported, with the traceback for staff."""
    configure(backend=backend)

    @task(name="o.fall", max_retries=1)
    def fall() -> None:
        raise ValueError("it broke")

    await final(await fall.aenqueue())
    await eventually(lambda: len(recorder.seen) == 5)
    assert recorder.events == [
        ("enqueued", "pending"),
        ("started", "running"), ("ended", "retrying"),
        ("started", "running"), ("ended", "failed"),
    ]  # fmt: skip
    assert [it[2] for it in recorder.seen if it[0] == "started"] == [1, 2]
    assert 'raise ValueError("it broke")' in recorder.last("ended")[3]


async def test_a_task_that_was_cancelled_while_it_waited(
    configure: Configure, recorder: Recorder
) -> None:
    """It ended, and took no time: it never ran."""

    @task(name="o.later")
    async def later() -> None: ...

    handle = await later.using(delay=3600).aenqueue()
    await service.acancel(SYSTEM, handle.id)
    await eventually(lambda: len(recorder.seen) == 2)
    assert recorder.events == [("enqueued", "pending"), ("ended", "cancelled")]
    assert recorder.last("ended")[2:] == (None, None)


async def test_a_task_that_was_cancelled_while_it_ran(
    configure: Configure, recorder: Recorder
) -> None:
    """One end, whatever caused the cancel."""

    @task(name="o.hang")
    async def hang() -> None:
        await asyncio.Event().wait()

    handle = await hang.aenqueue()
    await until_status(handle, "running")
    await handle.acancel()
    await final(handle)
    await eventually(lambda: len(recorder.seen) == 3)
    assert recorder.events[1:] == [("started", "running"), ("ended", "cancelled")]


@on_databases
async def test_an_outcome_that_is_no_longer_wanted_is_dropped(
    configure: Configure, recorder: Recorder
) -> None:
    """So that who counts what runs can count it out again."""
    go = asyncio.Event()

    @task(name="o.robbed")
    async def robbed() -> None:
        await go.wait()

    handle = await robbed.aenqueue()
    await until_status(handle, "running")
    await TaskExecution.objects.filter(id=handle.id).aupdate(token=handle.id)
    go.set()
    await eventually(lambda: len(recorder.seen) == 3)
    assert recorder.events[1:] == [("started", "running"), ("dropped", "running")]
    await TaskExecution.objects.filter(id=handle.id).adelete()


@on_databases
async def test_a_task_of_a_transaction_is_reported_after_its_commit(
    configure: Configure, recorder: Recorder
) -> None:
    """And one that was rolled back never."""

    @task(name="o.inside")
    async def inside() -> None: ...

    def enqueue() -> None:
        with transaction.atomic():
            inside.enqueue()
            assert recorder.seen == []
        with transaction.atomic():
            inside.enqueue()
            transaction.set_rollback(True)

    await host.aruntime()
    await sync_to_async(enqueue)()
    await eventually(lambda: len(recorder.seen) == 3)
    assert recorder.events == [
        ("enqueued", "pending"), ("started", "running"), ("ended", "completed"),
    ]  # fmt: skip


@in_memory
async def test_a_unique_task_that_exists_is_not_reported_twice(
    configure: Configure, recorder: Recorder
) -> None:
    """Nothing was enqueued."""

    @task(name="o.only", unique=True)
    async def only() -> None: ...

    await only.using(delay=3600).aenqueue()
    await only.using(delay=3600).aenqueue()
    assert recorder.events == [("enqueued", "pending")]


@in_memory
async def test_what_is_handed_back_has_ended(configure: Configure, recorder: Recorder) -> None:
    """A shutdown ends the attempt; the task will be retried."""
    configure(drain_seconds=0)

    @task(name="o.long")
    async def long() -> None:
        await asyncio.Event().wait()

    handle = await long.aenqueue()
    await until_status(handle, "running")
    await host.astop()
    assert recorder.events[1:] == [("started", "running"), ("ended", "retrying")]


@BACKENDS
async def test_a_broken_observer_hurts_no_task(
    configure: Configure, recorder: Recorder, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The task completes, and the log says what is wrong."""
    observers.register(lambda settings: Broken())
    configure(backend=backend)

    @task(name="o.fine")
    async def fine() -> int:
        return 7

    snapshot = await final(await fine.aenqueue())
    assert (snapshot.status, snapshot.result) == ("completed", 7)
    await eventually(lambda: sum("Broken" in it.getMessage() for it in caplog.records) == 3)


@on_databases
async def test_an_end_without_an_attempt_here_is_reported(
    configure: Configure, recorder: Recorder
) -> None:
    """Failed because no process knows its name, or because its process was lost once too often."""
    configure(max_crashes=0)
    runtime = await host.aruntime()

    @task(name="o.later")
    async def later() -> None: ...

    unknown, lost = [await later.using(delay=3600).aenqueue() for _ in range(2)]
    dead = new_id()
    await rows(unknown).aupdate(name="o.renamed", run_after=None)
    await rows(lost).aupdate(
        status="running", run_after=None, attempts=1, runtime_id=dead, token=new_id()
    )
    assert runtime.recoverer is not None
    await runtime.recoverer.fail_unknown("o.renamed")
    runtime.recoverer.recover(frozenset({dead}))
    await eventually(lambda: runtime.recovered)
    ended = [it for it in recorder.seen if it[0] == "ended"]
    assert ended == [("ended", "failed", None, None)] * 2
    codes = [(await it.arefresh()).snapshot.error_code for it in (unknown, lost)]
    assert codes == ["unknown_task", "worker_lost"]


def rows(handle: TaskHandle) -> QuerySet[TaskExecution]:
    return TaskExecution.objects.filter(id=handle.id)


# --- slow -----------------------------------------------------------------------------------------


@in_memory
async def test_a_slow_task_is_reported_while_it_runs(
    configure: Configure, recorder: Recorder
) -> None:
    """One that hangs would never come to its end; it is reported once."""
    configure(slow_task_threshold_seconds=0.05)
    go = asyncio.Event()

    @task(name="o.hangs")
    async def hangs() -> None:
        await go.wait()

    handle = await hangs.aenqueue()
    await eventually(lambda: len(recorder.seen) == 3)
    event, status, seconds = recorder.last("slow")
    assert (event, status) == ("slow", "running")
    assert 0.05 <= seconds < TIMEOUT
    go.set()
    await final(handle)
    assert [it for it, _ in recorder.events] == ["enqueued", "started", "slow", "ended"]


@in_memory
@pytest.mark.parametrize("backend", ["asyncio", "sync"])
async def test_a_task_that_blocks_is_reported_at_its_end(
    configure: Configure, recorder: Recorder, backend: str
) -> None:
    """No timer has a turn while it runs."""
    configure(backend=backend, slow_task_threshold_seconds=0.05)

    @task(name="o.blocks")
    async def blocks() -> None:
        time.sleep(0.1)  # noqa: ASYNC251 (that is what is wrong with it)

    await final(await blocks.aenqueue())
    await eventually(lambda: len(recorder.seen) == 4)
    assert [it for it, _ in recorder.events] == ["enqueued", "started", "slow", "ended"]
    assert recorder.last("slow")[2] >= 0.1


@in_memory
@BACKENDS
async def test_a_quick_task_is_not_slow(
    configure: Configure, recorder: Recorder, backend: str
) -> None:
    """Also when its retry delay is longer than the threshold: attempts are timed, not tasks."""
    configure(backend=backend, slow_task_threshold_seconds=0.3, retry_delay=0.5, retry_jitter=0)

    @task(name="o.quick", max_retries=1)
    async def quick(info: Any) -> None:
        if info.context.task.attempt == 1:
            raise ValueError

    await final(await quick.aenqueue())
    await eventually(lambda: recorder.events[-1] == ("ended", "completed"))
    # A busy machine may take as long for a body.
    slow = sum(it[0] == "slow" for it in recorder.seen)
    assert slow <= sum(it[0] == "ended" and it[2] > 0.25 for it in recorder.seen)
