"""The failure callback: how a project hears of tasks that have failed for good."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections import Counter
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from rail_async_tasks import Fail, Task, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.runtime.upkeep.cleanup import Disposal
from tests.support.clock import FakeClock
from tests.support.runtimes import Configure, on_databases
from tests.support.timings import Timings
from tests.support.waiting import eventually, final, no

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

calls: list[dict[str, Any]] = []
threads: list[str] = []


@pytest.fixture(autouse=True)
def silence() -> None:
    calls.clear()
    threads.clear()


def in_a_thread(**keywords: Any) -> None:
    threads.append(threading.current_thread().name)
    calls.append(keywords)


async def on_the_loop(**keywords: Any) -> None:
    await asyncio.sleep(0)
    calls.append(keywords)


@functools.wraps(on_the_loop)
def around_a_coroutine(**keywords: Any) -> Any:
    """As decorators that know nothing of coroutines make."""
    return on_the_loop(**keywords)


def that_raises(**keywords: Any) -> None:
    calls.append(keywords)
    raise RuntimeError("the pager is broken")


def path(function: Any) -> str:
    return f"{__name__}.{function.__name__}"


def with_callback(configure: Configure, function: Any, **settings: Any) -> None:
    configure(on_failure="callback", failure_callback=path(function), **settings)


def failing(**options: Any) -> Task:
    @task(name="callback.fall", **{"max_retries": 1, **options})
    async def fall(n: int = 0) -> None:
        raise ValueError(f"no sense in {n}")

    return fall


async def open_marks() -> int:
    return await TaskExecution.objects.filter(callback_at__isnull=False).acount()


async def no_mark_is_left() -> None:
    await eventually(lambda: no(open_marks()))


@pytest.mark.parametrize("function", [in_a_thread, on_the_loop])
async def test_it_is_called_once_with_strings(
    store: str, configure: Configure, function: Any
) -> None:
    """After the last retry, as `def` and as `async def`; the row's mark is gone then."""
    with_callback(configure, function)
    handle = await failing().aenqueue(n=7)
    snapshot = await final(handle)
    await eventually(lambda: calls)
    (keywords,) = calls
    trace = keywords.pop("traceback")
    assert keywords == {
        "taskId": str(handle.id), "task_name": "callback.fall", "error": "no sense in 7",
    }  # fmt: skip
    assert isinstance(trace, str)
    assert 'raise ValueError(f"no sense in {n}")' in trace
    assert snapshot.attempts == 2
    if store != "memory":
        await no_mark_is_left()


@on_databases
@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.long)])
async def test_many_failures_are_as_many_calls(
    store: str, configure: Configure, count: int
) -> None:
    """One each, ten at a time, and none for what is completed or cancelled."""
    with_callback(configure, in_a_thread)
    fall = failing(max_retries=0)

    @task(name="callback.fine")
    async def fine() -> None: ...

    @task(name="callback.doomed")
    async def doomed() -> None:
        await asyncio.Event().wait()

    handles = [await fall.aenqueue(n=n) for n in range(count)]
    good, cancelled = await fine.aenqueue(), await doomed.aenqueue()
    await cancelled.acancel()
    for handle in [*handles, good, cancelled]:
        await final(handle)
    await eventually(lambda: len(calls) >= count)
    await no_mark_is_left()
    assert Counter(it["taskId"] for it in calls) == Counter(str(it.id) for it in handles)


async def test_whatever_the_reason(store: str, configure: Configure) -> None:
    """A timeout, a bad result, `Fail`; a retry that follows is no failure."""
    with_callback(configure, on_the_loop, max_retries=0)

    @task(name="callback.slow", timeout=0.05)
    async def slow() -> None:
        await asyncio.Event().wait()

    @task(name="callback.bad")
    async def bad() -> object:
        return object()

    @task(name="callback.raised")
    async def raised() -> None:
        raise Fail("out of paper")

    @task(name="callback.flaky", max_retries=1)
    async def flaky(info: Any) -> None:
        if info.context.task.attempt == 1:
            raise ValueError("once")

    for it in (slow, bad, raised, flaky):
        await final(await it.aenqueue())
    await eventually(lambda: len(calls) >= 3)
    names = Counter(it["task_name"] for it in calls)
    assert names == Counter(["callback.slow", "callback.bad", "callback.raised"])
    assert {it["error"] for it in calls} >= {"out of paper"}


async def test_one_that_raises_is_logged_and_not_repeated(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """With the task's id; the task itself is as failed as before."""
    with_callback(configure, that_raises)
    handle = await failing().aenqueue()
    await final(handle)
    await eventually(lambda: "the pager is broken" in caplog.text)
    assert str(handle.id) in caplog.text
    if store != "memory":
        await no_mark_is_left()
    assert len(calls) == 1


@on_databases
async def test_a_call_whose_process_died_is_made_by_another(
    store: str, configure: Configure, timings: Timings
) -> None:
    """Once its time has passed; the row is not deleted before."""
    timings.set("reconciler", interval=0.02)
    configure(max_retries=0)
    handle = await failing(max_retries=0).aenqueue()
    await final(handle)
    assert calls == []
    await host.astop()
    # As a process leaves the row that dies after the commit: marked, and long expired.
    past = "2020-01-01T00:00:00Z"
    rows = TaskExecution.objects.filter(id=handle.id)
    await rows.aupdate(callback_at=past, expires_at=past)
    with_callback(configure, in_a_thread)
    assert await sync_to_async(host.ledger().dispose)(Disposal(), 10) == 0

    @task(name="callback.other")
    async def other() -> None: ...

    await final(await other.aenqueue())
    await eventually(lambda: calls)
    await no_mark_is_left()
    (keywords,) = calls
    assert keywords["taskId"] == str(handle.id)
    assert "raise ValueError" in keywords["traceback"]


@on_databases
async def test_a_long_call_is_not_made_by_another(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """It is kept while it lasts: prolonged by a minute after each third of one."""
    over = asyncio.Event()

    async def slowly(**keywords: Any) -> None:
        calls.append(keywords)
        await over.wait()

    monkeypatch.setattr(sys.modules[__name__], "slow_callback", slowly, raising=False)
    configure(on_failure="callback", failure_callback=f"{__name__}.slow_callback")
    await final(await failing(max_retries=0).aenqueue())
    await eventually(lambda: calls)
    for _ in range(2):
        marked_until = (await TaskExecution.objects.aget()).callback_at
        assert marked_until is not None
        later = TaskExecution.objects.filter(callback_at__gt=marked_until)

        async def is_prolonged() -> bool:
            await clock.advance(2)
            return await later.aexists()  # noqa: B023 (called in this round)

        await eventually(is_prolonged)
        assert await host.ledger().callbacks().take_overdue(60, 10, ()) == []
    over.set()
    await no_mark_is_left()
    assert len(calls) == 1


@on_databases
async def test_under_sync_it_is_called_after_the_commit(store: str, configure: Configure) -> None:
    """In the caller's thread; not at all where the transaction is rolled back."""
    from django.db import transaction

    with_callback(configure, on_the_loop, backend="sync")
    fall = failing()

    def commit_and_roll_back() -> None:
        with transaction.atomic():
            fall.enqueue(n=1)
            assert calls == []
        assert [it["error"] for it in calls] == ["no sense in 1"]
        with transaction.atomic():
            fall.enqueue(n=2)
            transaction.set_rollback(True)
        assert len(calls) == 1

    await sync_to_async(commit_and_roll_back)()
    assert await open_marks() == 0
    assert len(await service.alist(SYSTEM)) == 1


async def test_without_the_setting_no_callback_is_called(store: str, configure: Configure) -> None:
    """`on_failure` is "log" by default, and no mark is left."""
    configure(failure_callback=path(in_a_thread))
    await final(await failing().aenqueue())
    await host.astop()
    assert calls == []
    if store != "memory":
        assert await open_marks() == 0


@pytest.mark.parametrize("backend", ["asyncio", "sync"])
async def test_a_plain_function_around_a_coroutine(configure: Configure, backend: str) -> None:
    """Its answer is awaited, or nothing of the callback would run."""
    globals_path = f"{__name__}.around_a_coroutine"
    configure(on_failure="callback", failure_callback=globals_path, backend=backend)
    handle = await failing(max_retries=0).aenqueue()
    await final(handle)
    await eventually(lambda: calls)
    assert [it["taskId"] for it in calls] == [str(handle.id)]
