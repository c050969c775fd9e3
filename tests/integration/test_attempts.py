"""One attempt and what becomes of it, whatever its body does."""

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.db import connection, connections
from django.utils import timezone

from rail_async_tasks import Fail, Retry, TaskFailed, task
from rail_async_tasks.hosting import process as host
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.waiting import TIMEOUT, eventually, final, until_status, watched

pytestmark = [pytest.mark.usefixtures("ends_cleanly", "loop_kind"), pytest.mark.turns("store")]


# --- time runs out --------------------------------------------------------------------------------


async def test_an_attempt_that_takes_too_long_is_retried(configure: Configure) -> None:
    """A timeout ends one attempt, not the task."""
    ended = []

    @task(name="t.slow", timeout=0.05)
    async def slow(info: Any) -> int:
        attempt: int = info.context.task.attempt
        if attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(info.context.task.cancel_requested)
        return attempt

    snapshot = await final(await slow.aenqueue())
    assert (snapshot.status, snapshot.result, snapshot.retry_count) == ("completed", 2, 1)
    assert ended == [True]


async def test_a_task_that_always_takes_too_long_fails(configure: Configure) -> None:
    """With the code `timeout`."""

    @task(name="t.too_slow", timeout=0.03, max_retries=1)
    async def too_slow() -> None:
        await asyncio.Event().wait()

    snapshot = await final(await too_slow.aenqueue())
    assert (snapshot.status, snapshot.error_code, snapshot.attempts) == ("failed", "timeout", 2)
    assert "0.03 s" in str(snapshot.error)


async def test_a_timeout_of_a_def_task(configure: Configure) -> None:
    """It is asked to end, and its timeout is what it ends with."""

    @task(name="t.slow_thread", timeout=0.05, max_retries=0)
    def slow(info: Any) -> None:
        while True:
            info.context.task.raise_if_cancelled()
            time.sleep(0.005)

    snapshot = await final(await slow.aenqueue())
    assert (snapshot.status, snapshot.error_code) == ("failed", "timeout")


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_body_that_returns_within_the_grace_has_completed(
    configure: Configure, kind: str
) -> None:
    """Past its timeout too: its work is done, and another attempt would do it again."""
    runs: list[int] = []

    @task(name="t.late", timeout=0.03)
    async def in_coroutine(info: Any) -> str:
        runs.append(info.context.task.attempt)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return f"saved, {info.context.task.cancel_requested}"
        return ""

    @task(name="t.late_in_thread", timeout=0.03)
    def in_thread(info: Any) -> str:
        runs.append(info.context.task.attempt)
        while not info.context.task.cancel_requested:
            time.sleep(0.002)
        return "saved, True"

    declared = in_coroutine if kind == "coroutine" else in_thread
    snapshot = await final(await declared.aenqueue())
    assert (snapshot.status, snapshot.result) == ("completed", "saved, True")
    assert (snapshot.error, snapshot.error_code) == (None, None)
    assert (snapshot.retry_count, runs) == (0, [1])


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_body_that_raises_within_the_grace_has_timed_out(
    configure: Configure, kind: str
) -> None:
    """Whatever it raises: the timeout is why it ended, and is retried as such."""

    @task(name="t.torn", timeout=0.03, max_retries=1)
    async def in_coroutine() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("cleaning up failed")

    @task(name="t.torn_in_thread", timeout=0.03, max_retries=1)
    def in_thread(info: Any) -> None:
        while not info.context.task.cancel_requested:
            time.sleep(0.002)
        raise KeyError("cleaning up failed")

    declared = in_coroutine if kind == "coroutine" else in_thread
    snapshot = await final(await declared.aenqueue())
    assert (snapshot.status, snapshot.error_code, snapshot.attempts) == ("failed", "timeout", 2)
    assert "0.03 s" in str(snapshot.error)


async def test_a_def_body_that_returns_after_the_grace_has_timed_out(configure: Configure) -> None:
    """Its row is final by then, and what it returns changes nothing."""
    configure(cancel_grace_seconds=0.03)
    let_go = threading.Event()

    @task(name="t.much_too_late", timeout=0.03, max_retries=0)
    def late() -> str:
        let_go.wait(TIMEOUT)
        return "too late"

    handle = await late.aenqueue()
    try:
        snapshot = await final(handle)
        assert (snapshot.status, snapshot.error_code) == ("failed", "timeout")
    finally:
        let_go.set()
    runtime = host.current()
    assert runtime is not None
    await eventually(lambda: runtime.statistics()["leaked"] == 0)
    assert (await handle.arefresh()).snapshot == snapshot


# --- cancelled ------------------------------------------------------------------------------------


async def test_a_cancelled_body_cleans_up(configure: Configure) -> None:
    """Its `finally` runs, with awaits in it, before the row is `cancelled`."""
    entered, cleaned = asyncio.Event(), []

    @task(name="t.tidy")
    async def tidy() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)
            cleaned.append(True)

    handle = await tidy.aenqueue()
    await entered.wait()
    await handle.acancel()
    snapshot = await final(handle)
    assert cleaned == [True]
    assert (snapshot.status, snapshot.error_code) == ("cancelled", "cancelled")
    assert (snapshot.error, snapshot.result) == (None, None)


async def test_a_body_that_ends_well_all_the_same_has_completed(configure: Configure) -> None:
    """A cancel that comes too late does not throw a result away."""
    entered = asyncio.Event()

    @task(name="t.stubborn")
    async def stubborn() -> str:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"
        return ""

    handle = await stubborn.aenqueue()
    await entered.wait()
    await handle.acancel()
    snapshot = await final(handle)
    assert (snapshot.status, snapshot.result) == ("completed", "saved")


async def test_a_cancelled_task_that_waits_never_runs(configure: Configure) -> None:
    """Neither one that is delayed nor one for which there was no slot."""
    configure(max_concurrency=1)
    ran, gate = [], asyncio.Event()

    @task(name="t.hold")
    async def hold() -> None:
        await gate.wait()

    @task(name="t.mark")
    async def mark() -> None:
        ran.append(True)

    holder = await hold.aenqueue()
    await until_status(holder, "running")
    waiting = [await mark.aenqueue(), await mark.using(delay=0.05).aenqueue()]
    for handle in waiting:
        snapshot = (await handle.acancel()).snapshot
        assert (snapshot.status, snapshot.error_code) == ("cancelled", "cancelled")
    gate.set()
    await final(holder)
    await final(await mark.using(delay=0.1).aenqueue())
    assert ran == [True]


async def test_a_body_that_swallows_its_cancel_is_given_up(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """After the grace period its row is final and its slot replaced, without a busy loop."""
    configure(cancel_grace_seconds=0.3, max_concurrency=1)
    entered, let_go, deaf_to = asyncio.Event(), asyncio.Event(), []

    @task(name="t.deaf")
    async def deaf() -> str:
        entered.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                deaf_to.append(True)
        return "too late"

    @task(name="t.next")
    async def next_() -> str:
        return "ran"

    handle = await deaf.aenqueue()
    await entered.wait()
    try:
        began = time.monotonic()
        await handle.acancel()
        snapshot = await final(handle)
        assert snapshot.status == "cancelled"
        assert time.monotonic() - began > 0.25
        assert 1 <= len(deaf_to) <= 3  # a busy loop would have delivered it at every step
        assert "given up" in caplog.text
        runtime = host.current()
        assert runtime is not None
        assert runtime.statistics()["leaked"] == 1
        assert (await final(await next_.aenqueue())).result == "ran"
    finally:
        let_go.set()
    await eventually(lambda: runtime.statistics()["leaked"] == 0)
    assert (await handle.arefresh()).snapshot == snapshot


async def test_a_def_body_that_ignores_its_cancel_is_given_up(configure: Configure) -> None:
    """The row is final after the grace period, and another thread takes its slot."""
    configure(cancel_grace_seconds=0.1, max_workers=1)
    entered, let_go = threading.Event(), threading.Event()

    @task(name="t.deaf_thread")
    def deaf() -> str:
        entered.set()
        let_go.wait(TIMEOUT)
        return "too late"

    @task(name="t.next_thread")
    def next_() -> str:
        return "ran"

    handle = await deaf.aenqueue()
    await eventually(entered.is_set)
    await handle.acancel()
    try:
        assert (await final(handle)).status == "cancelled"
        runtime = host.current()
        assert runtime is not None
        assert runtime.statistics()["leaked"] == 1
        assert (await final(await next_.aenqueue())).result == "ran"
    finally:
        let_go.set()
    await eventually(lambda: runtime.statistics()["leaked"] == 0)
    assert (await handle.arefresh()).status == "cancelled"


# --- ends of its own choice -----------------------------------------------------------------------


async def test_retry_asks_for_another_attempt_after_its_delay(configure: Configure) -> None:
    """`raise Retry(delay=...)`, in place of the declared delay."""
    at: list[float] = []
    gate = asyncio.Event()

    @task(name="t.again", retry_delay=3600)
    async def again(info: Any) -> int:
        await gate.wait()
        at.append(time.monotonic())
        if info.context.task.attempt == 1:
            raise Retry(delay=0.2)
        attempt: int = info.context.task.attempt
        return attempt

    handle = await again.aenqueue()
    async with watched(handle) as seen:
        gate.set()
        snapshot = await final(handle)
        await eventually(lambda: seen[-1].is_final)
    assert [it.run_after is not None for it in seen if it.status == "retrying"] == [True]
    assert (snapshot.status, snapshot.result, snapshot.retry_count) == ("completed", 2, 1)
    assert at[1] - at[0] > 0.19


async def test_fail_ends_a_task_for_good(configure: Configure) -> None:
    """Whatever retries are left; its message is the task's error."""

    @task(name="t.hopeless")
    async def hopeless() -> None:
        raise Fail("The file is empty.")

    snapshot = await final(await hopeless.aenqueue())
    assert (snapshot.status, snapshot.error) == ("failed", "The file is empty.")
    assert (snapshot.attempts, snapshot.error_code) == (1, "exception")


@on_databases
@pytest.mark.parametrize(
    ("value", "code"),
    [
        (object(), "result_not_serializable"),
        (math.nan, "result_not_serializable"),
        ("nul \x00", "result_not_serializable"),
        ("x" * 2000, "result_too_large"),
    ],
    ids=["object", "nan", "nul", "large"],
)
async def test_a_result_that_cannot_be_kept_fails_the_task(
    configure: Configure, store: str, value: object, code: str
) -> None:
    """Without a retry: its body has run."""
    configure(max_result_bytes=1000)

    @task(name="t.returns")
    async def returns() -> Any:
        return value

    snapshot = await final(await returns.aenqueue())
    assert (snapshot.status, snapshot.error_code) == ("failed", code)
    assert (snapshot.attempts, snapshot.result) == (1, None)


@in_memory
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.parametrize(
    "error", [SystemExit, GeneratorExit, StopIteration, KeyboardInterrupt, BaseException]
)
async def test_no_body_ends_the_process(
    configure: Configure, store: str, kind: str, error: type[BaseException]
) -> None:
    """`sys.exit()` and its like fail the task, and others run on."""

    @task(name="t.exits", max_retries=0)
    async def exits() -> None:
        if error is SystemExit:
            sys.exit(3)
        raise error("over")

    @task(name="t.exits_in_thread", max_retries=0)
    def exits_in_thread() -> None:
        if error is SystemExit:
            sys.exit(3)
        raise error("over")

    @task(name="t.neighbour")
    async def neighbour() -> str:
        return "fine"

    snapshot = await final(await (exits if kind == "coroutine" else exits_in_thread).aenqueue())
    assert (snapshot.status, snapshot.error_code) == ("failed", "exception")
    assert (await final(await neighbour.aenqueue())).result == "fine"


async def test_a_body_that_raises_cancelled_error_by_itself_has_failed(
    configure: Configure,
) -> None:
    """No cancel had been requested."""

    @task(name="t.pretends", max_retries=0)
    async def pretends() -> None:
        raise asyncio.CancelledError

    with pytest.raises(TaskFailed):
        await (await pretends.aenqueue()).aresult(TIMEOUT)


# --- later ----------------------------------------------------------------------------------------


async def test_a_delayed_task_starts_when_it_is_due(configure: Configure) -> None:
    """`delay` and `run_after`: not before. How soon after, tests/runtime/test_due.py shows."""
    at: dict[str, float] = {}

    @task(name="t.later")
    async def later(which: str) -> None:
        at[which] = time.monotonic()

    began = time.monotonic()
    run_after = timezone.now() + timedelta(seconds=0.3)
    handles = [
        await later.aenqueue(which="now"),
        await later.using(delay=0.3).aenqueue(which="delay"),
        await later.using(run_after=run_after).aenqueue(which="run_after"),
    ]
    for handle in handles:
        assert (await final(handle)).status == "completed"
    assert at["now"] < min(at["delay"], at["run_after"])
    assert at["delay"] - began > 0.29
    assert at["run_after"] - began > 0.29


async def test_the_wait_for_a_retry_holds_no_slot(configure: Configure) -> None:
    """With one slot, others run while a task waits for its next attempt."""
    configure(max_concurrency=1)

    @task(name="t.waits", retry_delay=3600, max_retries=1)
    async def waits() -> None:
        raise ValueError("not yet")

    @task(name="t.others")
    async def others() -> str:
        return "ran"

    waiting = await waits.aenqueue()
    await until_status(waiting, "retrying")
    for _ in range(3):
        assert (await final(await others.aenqueue())).result == "ran"
    assert (await waiting.arefresh()).status == "retrying"
    await waiting.acancel()


# --- what a body finds ----------------------------------------------------------------------------

secret: contextvars.ContextVar[str] = contextvars.ContextVar("secret", default="nothing")


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_context_variables_do_not_leak(configure: Configure, kind: str) -> None:
    """Neither from the caller into the task nor from one task into another."""

    def look_and_tell() -> str:
        found = secret.get()
        secret.set("a secret of a task")
        return found

    @task(name="t.context")
    async def in_coroutine() -> str:
        return look_and_tell()

    @task(name="t.context_in_thread")
    def in_thread() -> str:
        return look_and_tell()

    secret.set("a secret of the caller")
    for _ in range(6):
        handle = await (in_coroutine if kind == "coroutine" else in_thread).aenqueue()
        assert (await final(handle)).result == "nothing"
    assert secret.get() == "a secret of the caller"


@on_databases
async def test_the_orm_in_an_async_body(configure: Configure, store: str) -> None:
    """Many at once, through few connections, which are not the caller's."""
    threads: set[str] = set()

    @task(name="t.orm")
    async def orm(number: int) -> int:
        await Group.objects.acreate(name=f"group {number}")
        group = await Group.objects.aget(name=f"group {number}")
        from asgiref.sync import sync_to_async

        threads.add(await sync_to_async(lambda: threading.current_thread().name)())
        return int(group.name.split()[1])

    handles = [await orm.aenqueue(number=number) for number in range(30)]
    assert [(await final(handle)).result for handle in handles] == list(range(30))
    assert len(threads) <= 4
    assert all(name.startswith("rail-tasks") for name in threads)


@on_databases
async def test_a_def_body_leaves_no_connection_open(configure: Configure, store: str) -> None:
    """Its thread gives back what it opened, whatever the body did."""
    open_ = []

    @task(name="t.uses", max_retries=0)
    def uses(fails: bool) -> None:
        Group.objects.count()
        open_.append(connection)
        with_it = connections["default"]
        assert with_it.connection is not None
        open_[-1] = with_it
        if fails:
            raise ValueError("in the middle")

    for fails in (False, True, False):
        await final(await uses.aenqueue(fails=fails))
    assert len(open_) == 3
    assert [it.connection for it in open_] == [None, None, None]


@on_databases
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_the_owner_is_a_loaded_user(configure: Configure, store: str, kind: str) -> None:
    """Usable without an `await`; a stranger's or a deleted owner's task has `AnonymousUser`."""

    def describe(info: Any) -> list[Any]:
        user = info.context.user
        return [user.get_username(), isinstance(user, AnonymousUser), info.context.tenant_id]

    @task(name="t.owner")
    async def in_coroutine(info: Any) -> list[Any]:
        return describe(info)

    @task(name="t.owner_in_thread")
    def in_thread(info: Any) -> list[Any]:
        return describe(info)

    declared = in_coroutine if kind == "coroutine" else in_thread
    ada = await User.objects.acreate(username="ada")
    owned = await final(await declared.using(owner=ada, tenant_id="north").aenqueue())
    assert (owned.result, owned.owner_id) == (["ada", False, "north"], str(ada.pk))
    assert (await final(await declared.aenqueue())).result == ["", True, None]
    assert (await final(await declared.using(owner=ada.pk + 1).aenqueue())).result[1] is True


async def test_a_retry_starts_its_progress_anew(configure: Configure) -> None:
    """And the error of the attempt before is gone; success sets 100."""

    @task(name="t.progress")
    async def progress(info: Any) -> None:
        await gates[info.context.task.attempt - 1].wait()
        if info.context.task.attempt == 1:
            info.context.task.update_progress(60, "more than half")
            raise ValueError("no")

    gates = [asyncio.Event(), asyncio.Event()]
    handle = await progress.aenqueue()
    async with watched(handle) as seen:
        gates[0].set()
        await eventually(lambda: (seen[-1].status, seen[-1].attempts) == ("running", 2))
    (retrying,) = [it for it in seen if it.status == "retrying"]
    assert (retrying.error, retrying.progress) == ("no", 60)
    running = (await handle.arefresh()).snapshot
    assert (running.progress, running.progress_message, running.error) == (0, None, None)
    gates[1].set()
    assert (await final(handle)).progress == 100


@in_memory
@pytest.mark.parametrize(
    "percent", [-1, 101, math.nan, "7", None, 10**400], ids=lambda it: type(it).__name__
)
async def test_progress_out_of_range_is_a_value_error(
    configure: Configure, store: str, percent: Any
) -> None:
    """In the body, at the call."""

    @task(name="t.wrong", max_retries=0)
    async def wrong(info: Any) -> None:
        info.context.task.update_progress(percent)

    snapshot = await final(await wrong.aenqueue())
    assert snapshot.status == "failed"
    assert "0 to 100" in str(snapshot.error)
