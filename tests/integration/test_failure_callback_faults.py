"""Failure callbacks that raise, hang, leave, or are cut short; failures that are logged instead."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import Counter
from collections.abc import Collection
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import transaction

from rail_async_tasks import Task, service, task
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.orm.callbacks import OrmCallbacks
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.registry import registry
from tests.integration.test_failure_callback import failing, no_mark_is_left, open_marks
from tests.support.clock import FakeClock
from tests.support.runtimes import Configure, on_databases, other_process
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually, final, no

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

calls: list[dict[str, Any]] = []


class Gate:
    """Opened by the test, on its loop; threads and coroutines wait for it."""

    def __init__(self) -> None:
        self._in_threads, self._on_loop = threading.Event(), asyncio.Event()

    def set(self) -> None:
        self._in_threads.set()
        self._on_loop.set()

    def wait(self) -> None:
        self._in_threads.wait(10 * TIMEOUT)

    async def await_(self) -> None:
        await self._on_loop.wait()


gate = Gate()  # a new one for each test


class Unspeakable(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("nor this")


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> Any:
    calls.clear()
    monkeypatch.setattr(sys.modules[__name__], "gate", Gate())
    yield
    gate.set()


def note(**keywords: Any) -> None:
    calls.append(keywords)


def leaves(**keywords: Any) -> None:
    calls.append(keywords)
    raise SystemExit(3)


def has_no_words(**keywords: Any) -> None:
    calls.append(keywords)
    raise Unspeakable


def wrong_signature() -> None:
    raise AssertionError("it was called without its keywords")


async def aleaves(**keywords: Any) -> None:
    calls.append(keywords)
    raise SystemExit(3)


async def cancels_itself(**keywords: Any) -> None:
    calls.append(keywords)
    current = asyncio.current_task()
    assert current is not None
    current.cancel()
    await asyncio.sleep(0)


def waits(**keywords: Any) -> None:
    calls.append(keywords)
    gate.wait()


async def awaits(**keywords: Any) -> None:
    calls.append(keywords)
    await gate.await_()


class Notifier:
    """A callable whose call is a coroutine."""

    async def __call__(self, **keywords: Any) -> None:
        calls.append(keywords)


notifier = Notifier()


def path(function: Any) -> str:
    return f"{__name__}.{function if isinstance(function, str) else function.__name__}"


def call_back(configure: Configure, function: Any, **task_settings: Any) -> None:
    configure(on_failure="callback", failure_callback=path(function), **task_settings)


async def make_overdue() -> None:
    """Lets the time pass for which a process holds its calls."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    await TaskExecution.objects.filter(callback_at__isnull=False).aupdate(callback_at=past)


# --- callbacks that go wrong ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", [leaves, aleaves, has_no_words, cancels_itself, wrong_signature]
)
async def test_a_callback_that_fails_in_any_way_is_logged_and_not_repeated(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture, function: Any
) -> None:
    """It ends neither the loop nor the runtime, and the next call is made."""
    call_back(configure, function)
    first, second = [await failing(max_retries=0).aenqueue()], []
    await final(first[0])
    await eventually(lambda: f"callback of task {first[0].id} raised" in caplog.text)
    second.append(await failing_too().aenqueue())
    await final(second[0])
    await eventually(lambda: f"callback of task {second[0].id} raised" in caplog.text)
    if store != "memory":
        await no_mark_is_left()
    assert len(calls) == (0 if function is wrong_signature else 2)


def failing_too() -> Any:
    @task(name="callback.fall.too", max_retries=0)
    async def fall() -> None:
        raise ValueError

    return fall


@pytest.mark.parametrize("function", [waits, awaits])
async def test_one_that_hangs_is_given_up(
    store: str,
    configure: Configure,
    timings: Timings,
    caplog: pytest.LogCaptureFixture,
    clock: FakeClock,
    function: Any,
) -> None:
    """After its time: ten that hang must not be the end of all others."""
    timings.set("callbacks", call_timeout=30.0, at_once=1)
    call_back(configure, function)
    fall = failing(max_retries=0)
    handles = [await fall.aenqueue() for _ in range(3)]
    for handle in handles:
        await final(handle)
    for number in (1, 2, 3):
        await eventually(lambda: len(calls) == number)  # noqa: B023 (called in this round)
        await clock.advance(30)
    if store != "memory":
        await no_mark_is_left()
    await eventually(lambda: caplog.text.count("longer than 30 s") >= 3)


@pytest.mark.parametrize("backend", ["asyncio", "sync"])
async def test_a_wrong_path_refuses_the_use_of_tasks(
    store: str, configure: Configure, backend: str
) -> None:
    """As any wrong setting does: nothing is stored, and no call is lost in silence."""
    configure(on_failure="callback", failure_callback="no.such.thing", backend=backend)
    with pytest.raises(ConfigurationError, match=r'failure_callback"\]: "no.such.thing"'):
        await failing().aenqueue()
    if store != "memory":
        assert await TaskExecution.objects.acount() == 0


@on_databases
async def test_a_callable_object_and_a_lane_for_the_orm(store: str, configure: Configure) -> None:
    """Its call is awaited, though the object is no coroutine function."""
    call_back(configure, "notifier")
    await final(await failing().aenqueue())
    await eventually(lambda: calls)
    await no_mark_is_left()


started: list[Task] = []


def starts_another(**keywords: Any) -> None:
    Group.objects.create(name=keywords["taskId"])
    started[0].enqueue(text=keywords["error"])


async def astarts_another(**keywords: Any) -> None:
    await Group.objects.acreate(name=keywords["taskId"])
    await started[0].aenqueue(text=keywords["error"])


@on_databases
@pytest.mark.parametrize("function", [starts_another, astarts_another])
@pytest.mark.parametrize("backend", ["asyncio", "sync"])
async def test_it_may_use_the_orm_and_start_tasks(
    store: str,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    function: Any,
    backend: str,
) -> None:
    """From a thread and from the loop."""
    seen: list[str] = []

    @task(name="callback.notify")
    async def notify(text: str) -> None:
        seen.append(text)

    monkeypatch.setattr(sys.modules[__name__], "started", [notify])
    call_back(configure, function, backend=backend)
    handle = await failing(max_retries=0).aenqueue(n=3)
    await eventually(lambda: seen)
    assert seen == ["no sense in 3"]
    await no_mark_is_left()
    assert await Group.objects.filter(name=str(handle.id)).acount() == 1


# --- more than there is room for ------------------------------------------------------------------


@on_databases
async def test_what_there_is_no_room_for_stays_marked(
    store: str, configure: Configure, timings: Timings
) -> None:
    """And is made when it is overdue, by a process with room; each once."""
    timings.set("callbacks", most_waiting=3)
    timings.set("callbacks", page=2)
    timings.set("reconciler", interval=0.02)
    call_back(configure, awaits)
    fall = failing(max_retries=0)
    handles = [await fall.aenqueue(n=n) for n in range(12)]
    for handle in handles:
        await final(handle)
    await eventually(lambda: len(calls) == 3)
    gate.set()

    async def no_mark_is_left() -> bool:
        await make_overdue()
        return not await open_marks()

    await eventually(no_mark_is_left)
    assert Counter(it["taskId"] for it in calls) == Counter(str(it.id) for it in handles)


async def test_rows_in_memory_all_wait(configure: Configure, store: str, timings: Timings) -> None:
    """They have no mark by which another process could find them."""
    if store != "memory":
        return
    timings.set("callbacks", most_waiting=3)
    call_back(configure, awaits)
    fall = failing(max_retries=0)
    for n in range(12):
        await final(await fall.aenqueue(n=n))
    gate.set()
    await eventually(lambda: len(calls) == 12)


@on_databases
async def test_marks_are_cleared_and_kept_in_batches(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch, timings: Timings
) -> None:
    """A flood of failures is no flood of statements: outcomes go through the same thread."""
    timings.set("callbacks", hold=0.3)
    cleared: list[int] = []
    kept: list[int] = []
    made, keep = OrmCallbacks.made, OrmCallbacks.keep

    async def callbacks_made(ledger: OrmCallbacks, ids: Collection[UUID]) -> set[UUID]:
        cleared.append(len(ids))
        return await made(ledger, ids)

    async def keep_callbacks(ledger: OrmCallbacks, ids: Collection[UUID], hold: float) -> None:
        kept.append(len(ids))
        await keep(ledger, ids, hold)

    monkeypatch.setattr(OrmCallbacks, "made", callbacks_made)
    monkeypatch.setattr(OrmCallbacks, "keep", keep_callbacks)
    call_back(configure, awaits)
    fall = failing(max_retries=0)
    for handle in [await fall.aenqueue(n=n) for n in range(100)]:
        await final(handle)
    await eventually(lambda: kept.count(100) >= 2)
    gate.set()
    await no_mark_is_left()
    assert len(calls) == sum(cleared) == 100
    assert len(cleared) <= 50


# --- the end of the process -----------------------------------------------------------------------


@on_databases
@pytest.mark.parametrize("function", [waits, awaits])
async def test_what_the_end_of_the_process_cuts_short_is_made_by_another(
    store: str,
    configure: Configure,
    timings: Timings,
    caplog: pytest.LogCaptureFixture,
    function: Any,
) -> None:
    """Calls in the middle and calls that had not begun stay marked, and nothing waits."""
    timings.set("callbacks", at_once=2)
    timings.set("reconciler", interval=0.02)
    call_back(configure, function)
    fall = failing(max_retries=0)
    handles = [await fall.aenqueue(n=n) for n in range(5)]
    for handle in handles:
        await final(handle)
    await eventually(lambda: len(calls) == 2)
    await asyncio.wait_for(host.astop(), TIMEOUT)
    assert await open_marks() == 5
    assert "raised" not in caplog.text
    gate.set()
    calls.clear()
    await make_overdue()
    await final(await failing_too().aenqueue())
    await no_mark_is_left()
    assert {it["taskId"] for it in calls} >= {str(it.id) for it in handles}
    assert len(calls) == 6


def refused_while_ending(**keywords: Any) -> None:
    calls.append(keywords)
    gate.wait()
    if len(calls) == 1:
        raise RuntimeError("what it needs is gone")


@on_databases
async def test_one_that_raises_while_the_process_ends_is_tried_by_another(
    store: str, configure: Configure, timings: Timings, runtimes: AsyncExitStack
) -> None:
    """It may have raised for want of what the end has taken away, such as a runtime to enqueue."""
    timings.set("reconciler", interval=0.02)
    call_back(configure, refused_while_ending)
    handle = await failing(max_retries=0).aenqueue()
    await final(handle)
    await eventually(lambda: calls)
    runtime = host.current()
    assert runtime is not None
    runtime.state.draining = True
    gate.set()
    await asyncio.wait_for(runtime.callbacks.ended(TIMEOUT), TIMEOUT)
    assert await open_marks() == 1
    runtime.state.draining = False
    await make_overdue()
    await other_process(runtimes)
    await no_mark_is_left()
    assert [it["taskId"] for it in calls] == [str(handle.id)] * 2


@on_databases
async def test_two_processes_share_what_is_overdue(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch, runtimes: AsyncExitStack
) -> None:
    """Each call is made by one of them."""
    configure(max_retries=0)
    handles = [await failing(max_retries=0).aenqueue(n=1)]
    fall = registry.get("callback.fall")
    assert fall is not None
    for n in range(99):
        await service.aenqueue(fall, {"n": n})
    for handle in handles:
        await final(handle)
    unfinished = TaskExecution.objects.filter(completed_at=None)
    await eventually(lambda: no(unfinished.aexists()))
    await host.astop()
    await TaskExecution.objects.aupdate(callback_at="2020-01-01T00:00:00Z")
    call_back(configure, note)
    await asyncio.gather(*(other_process(runtimes) for _ in range(3)))
    await no_mark_is_left()
    assert Counter(Counter(it["taskId"] for it in calls).values()) == {1: 100}


# --- whatever the reason --------------------------------------------------------------------------


@on_databases
async def test_a_lost_worker_an_unknown_name_and_wrong_arguments(
    store: str, configure: Configure, timings: Timings
) -> None:
    """Failures without a body's exception: called once each, with an empty traceback."""
    timings.set("reconciler", interval=0.02)
    call_back(configure, note, lease_seconds=1.0, max_crashes=0)

    @task(name="callback.typed", max_retries=0)
    async def typed(n: int) -> None: ...

    lost, unknown, invalid = [await typed.using(delay=3600).aenqueue(n=1) for _ in range(3)]
    gone = new_id()
    at = "2020-01-01T00:00:00Z"
    await TaskRuntime.objects.acreate(
        id=gone, place="x", started_at=at, renewed_at=at, lapses_at=at, dead=True
    )
    rows = TaskExecution.objects
    await rows.filter(id=unknown.id).aupdate(name="callback.renamed")
    await rows.filter(id=invalid.id).aupdate(arguments={"n": "many"}, run_after=None)
    await rows.filter(id=lost.id).aupdate(
        status="running", runtime_id=gone, token=new_id(), attempts=1, run_after=None
    )
    runtime = host.current()
    assert runtime is not None
    await runtime.recoverer.fail_unknown("callback.renamed")
    await eventually(lambda: len(calls) == 3)
    await no_mark_is_left()
    seen = {it["taskId"]: it for it in calls}
    ended = {str(it.id): it async for it in rows.all()}
    assert {ended[key].error_code for key in seen} == {
        "worker_lost", "unknown_task", "invalid_args",
    }  # fmt: skip
    for key, keywords in seen.items():
        assert keywords["error"] == ended[key].error
        assert keywords["traceback"] == ""


# --- on_failure: "log" ----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "sync"])
async def test_by_default_a_failure_is_logged(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture, backend: str
) -> None:
    """One ERROR with id, name and code; the error's text is in its traceback alone."""
    configure(backend=backend)
    handle = await failing(max_retries=2).aenqueue(n=41)
    await final(handle)
    await eventually(lambda: errors(caplog))
    (record,) = errors(caplog)
    said = f"Task callback.fall ({handle.id}) failed: exception ValueError, attempt 3 of 3"
    assert record.getMessage() == said
    facts = {key: getattr(record, key) for key in ("task_id", "task_name", "error_code")}
    assert facts == {
        "task_id": str(handle.id), "task_name": "callback.fall", "error_code": "exception",
    }  # fmt: skip
    assert record.exc_info is not None
    assert "no sense in" in str(record.exc_info[1])


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    mine = [it for it in caplog.records if it.name == "rail_async_tasks.failures"]
    return [it for it in mine if it.levelno == logging.ERROR]


async def test_nothing_else_is_logged_so(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Not what completes after a retry or is cancelled. What is called back is logged too."""

    @task(name="callback.flaky", max_retries=1)
    async def flaky(info: Any) -> None:
        if info.context.task.attempt == 1:
            raise ValueError("once")

    later = await flaky.using(delay=3600).aenqueue()
    await later.acancel()
    await final(await flaky.aenqueue())
    await host.astop()
    call_back(configure, note)
    assert errors(caplog) == []
    await final(await failing().aenqueue())
    await eventually(lambda: calls)
    assert len(errors(caplog)) == 1


@on_databases
async def test_under_sync_a_rolled_back_failure_is_logged(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """At once: in a `TestCase`, for one, nothing is ever committed."""
    configure(backend="sync")
    fall = failing(max_retries=0)

    def roll_back() -> None:
        with transaction.atomic():
            fall.enqueue()
            transaction.set_rollback(True)

    await sync_to_async(roll_back)()
    assert len(errors(caplog)) == 1


@on_databases
@pytest.mark.parametrize("function", [leaves, aleaves, has_no_words])
async def test_under_sync_a_callback_that_raises_does_not_hurt_the_caller(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture, function: Any
) -> None:
    """It is logged with the task's id; the mark is gone."""
    call_back(configure, function, backend="sync")
    handle = await failing(max_retries=1).aenqueue()
    assert handle.status == "failed"
    assert f"callback of task {handle.id} raised" in caplog.text
    assert len(calls) == 1
    assert await open_marks() == 0


@on_databases
async def test_under_sync_a_call_is_not_taken_over_in_the_middle(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing renews it there, so it is the caller's for longer than a transaction may last."""
    marks: list[Any] = []

    def look(**keywords: Any) -> None:
        marks.append(TaskExecution.objects.get(id=keywords["taskId"]).callback_at)

    monkeypatch.setattr(sys.modules[__name__], "look", look, raising=False)
    call_back(configure, "look", backend="sync")
    await failing(max_retries=0).aenqueue()
    (mark,) = marks
    assert mark - datetime.now(UTC) > timedelta(minutes=50)
