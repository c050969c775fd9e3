"""Progress reported far more often than anybody wants to hear of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from rail_async_tasks import service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.records import Progress
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.runtimes import Configure, on_databases
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = pytest.mark.usefixtures("ends_cleanly", "loop_kind")

CALLS = 20_000
SECONDS = 1.2  # at least; a rate says nothing about less than a second

EVENTS_PER_SECOND, WRITES_PER_SECOND = 10, 2


@on_databases
@pytest.mark.covering("store", "kind")
@pytest.mark.parametrize("kind", ["coroutine", "coroutine that never awaits", "thread"])
async def test_a_flood_of_progress(  # noqa: C901, PLR0915 (three bodies)
    configure: Configure, store: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few events, fewer writes, and the last value is there for watchers and readers."""
    gate, open_ = asyncio.Event(), threading.Event()
    times: list[float] = []

    def report(info: Any, count: int) -> None:
        info.context.task.update_progress(count % 100, f"call {count}")

    def goes_on(count: int, began: float) -> bool:
        """Until there was a flood, for long enough, and some of it was let through."""
        short = count < CALLS or time.monotonic() - began < SECONDS
        return short or sum(bool(it.step) for it in events) < 5

    def the_last(info: Any, began: float) -> None:
        times.append(time.monotonic() - began)
        info.context.task.update_progress(73, "the last")

    @task(name="f.coroutine")
    async def in_coroutine(info: Any) -> None:
        began, count = time.monotonic(), 0
        while goes_on(count, began):
            report(info, count)
            count += 1
            if count % 500 == 0 or count > CALLS:
                await asyncio.sleep(0.002 * (count > CALLS))
        the_last(info, began)
        await gate.wait()

    @task(name="f.hog")
    async def hog(info: Any) -> None:
        began = time.monotonic()
        for count in range(CALLS):
            report(info, count)
        the_last(info, began)
        await gate.wait()

    @task(name="f.thread")
    def in_thread(info: Any) -> None:
        began, count = time.monotonic(), 0
        while goes_on(count, began):
            report(info, count)
            count += 1
            if count > CALLS:
                time.sleep(0.002)
        the_last(info, began)
        open_.wait(TIMEOUT)

    runtime = await host.aruntime()
    events: list[TaskSnapshot] = []
    writes: list[Progress] = []
    publish, keep = runtime.bus.publish, runtime.ledger.progress
    monkeypatch.setattr(runtime.bus, "publish", lambda it: (events.append(it), publish(it)))
    monkeypatch.setattr(runtime.ledger, "progress", lambda it: (writes.append(it), keep(it)))

    declared = {"coroutine": in_coroutine, "thread": in_thread}.get(kind, hog)
    handle = await declared.aenqueue()
    try:
        await last_seen(handle.id)
        await eventually(lambda: writes and writes[-1].progress_message == "the last")
        [seconds] = times
        progressed = [it for it in events if it.step]
        assert len(progressed) <= EVENTS_PER_SECOND * seconds + 2  # the first and the last besides
        assert len(writes) <= WRITES_PER_SECOND * seconds + 2
        assert [it.step for it in progressed] == list(range(1, len(progressed) + 1))
        snapshot = (await handle.arefresh()).snapshot
        assert (snapshot.progress, snapshot.progress_message) == (73, "the last")
        if kind != "coroutine that never awaits":
            assert len(progressed) >= 5  # it was not silence either
    finally:
        gate.set()
        open_.set()
    last = await final(handle)
    assert (last.status, last.progress) == ("completed", 100)


async def last_seen(task_id: Any) -> None:
    """Returns when a subscriber has seen the last value."""
    snapshots: AsyncIterator[TaskSnapshot] = service.watch(SYSTEM, task_id)
    async with asyncio.timeout(TIMEOUT), aclosing(snapshots):  # type: ignore[type-var]
        async for snapshot in snapshots:
            if (snapshot.progress, snapshot.progress_message) == (73, "the last"):
                return
    raise AssertionError("The task ended, and its last value was not seen.")


async def test_the_last_value_before_the_end_is_kept(configure: Configure) -> None:
    """Also when the interval has not passed: a failed task shows how far it came."""

    @task(name="f.fails", max_retries=0)
    async def fails(info: Any) -> None:
        for percent in range(43):
            info.context.task.update_progress(percent, f"row {percent}")
        raise ValueError("row 42 is broken")

    last = await final(await fails.aenqueue())
    assert (last.status, last.progress, last.progress_message) == ("failed", 42, "row 42")
