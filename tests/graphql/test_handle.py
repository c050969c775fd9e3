"""Starting tasks from Python: what `.using()` passes on, and what a handle answers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

import rail_async_tasks
from rail_async_tasks import (
    AlreadyFinal,
    BackendUnavailable,
    InvalidArguments,
    TaskCancelled,
    TaskFailed,
    TaskHandle,
    TaskNotFound,
    service,
)
from rail_async_tasks.ids import new_id
from rail_async_tasks.service import EnqueueOptions
from rail_async_tasks.snapshot import TaskSnapshot
from tests.projects import shop
from tests.support.api import Configure
from tests.support.waiting import TIMEOUT

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
NOW = datetime.now(UTC)


def snapshot(status: str = "pending", seq: int = 1, **more: Any) -> TaskSnapshot:
    return TaskSnapshot(
        id=more.pop("id", None) or new_id(),
        name="t",
        queue="q",
        status=status,
        created_at=NOW,
        updated_at=NOW,
        seq=seq,
        **more,
    )


class Started:
    """Stands in for the service's start: keeps what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, dict[str, Any], EnqueueOptions]] = []
        monkeypatch.setattr(service, "enqueue", self.enqueue)
        monkeypatch.setattr(service, "aenqueue", self.aenqueue)

    def enqueue(self, *call: Any) -> TaskSnapshot:
        self.calls.append(call)  # type: ignore[arg-type]
        return snapshot()

    async def aenqueue(self, *call: Any) -> TaskSnapshot:
        return self.enqueue(*call)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(monkeypatch)


USER = SimpleNamespace(pk=7, is_authenticated=True)
USING = [
    ({}, EnqueueOptions()),
    ({"queue": "high", "priority": 3}, EnqueueOptions(queue="high", priority=3)),
    ({"delay": 2.5}, EnqueueOptions(delay=2.5)),
    ({"delay": timedelta(minutes=1)}, EnqueueOptions(delay=60.0)),
    ({"run_after": NOW}, EnqueueOptions(run_after=NOW)),
    ({"unique_key": "k", "tenant_id": "acme"}, EnqueueOptions(unique_key="k", tenant_id="acme")),
    ({"owner": USER}, EnqueueOptions(owner_id="7")),
    ({"owner": 7}, EnqueueOptions(owner_id="7")),
    ({"owner": "7"}, EnqueueOptions(owner_id="7")),
    ({"owner": None}, EnqueueOptions()),
    ({"owner": AnonymousUser()}, EnqueueOptions()),
]


@pytest.mark.parametrize(("keywords", "options"), USING)
async def test_using(started: Started, keywords: Any, options: EnqueueOptions) -> None:
    """Each keyword reaches the service, from sync and from async code."""
    shop.add.using(**keywords).enqueue(a=1)
    await shop.add.using(**keywords).aenqueue(a=1)
    assert started.calls == [(shop.add.definition, {"a": 1}, options)] * 2


def test_using_again_adds_to_what_was_said(started: Started) -> None:
    """The later word counts; the task itself stays as it was."""
    high = shop.add.using(queue="high", priority=1)
    high.using(priority=2, tenant_id="acme").enqueue(a=1)
    shop.add.enqueue(a=1)
    assert [call[2] for call in started.calls] == [
        EnqueueOptions(queue="high", priority=2, tenant_id="acme"),
        EnqueueOptions(),
    ]


@ONE_DATABASE
def test_a_handle_in_sync_code(configure: Configure, database: object) -> None:
    """Inline, the result is there at once; a failure is an exception with its code."""
    configure(backend="sync")
    done = shop.add.enqueue(1, b=1)
    assert (done.status, done.result()) == ("completed", 2)
    assert done.refresh().status == "completed"
    with pytest.raises(AlreadyFinal):
        done.cancel()
    failed = shop.fall.enqueue()
    with pytest.raises(TaskFailed, match="it broke") as caught:
        failed.result()
    assert (caught.value.error_code, caught.value.declared) == ("exception", False)
    with pytest.raises(InvalidArguments):
        shop.add.enqueue(a="one")  # type: ignore[arg-type]


@ONE_DATABASE
async def test_a_handle_in_async_code(configure: Configure, database: object) -> None:
    """The same, awaited."""
    configure(backend="sync")
    done = await shop.add.aenqueue(1, 1)
    assert (done.status, await done.aresult()) == ("completed", 2)
    assert (await done.arefresh()).status == "completed"
    with pytest.raises(AlreadyFinal):
        await done.acancel()
    with pytest.raises(TaskFailed, match="it broke"):
        await (await shop.fall.aenqueue()).aresult()
    with pytest.raises(TaskNotFound):
        await TaskHandle(snapshot()).arefresh()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes `service.watch` yield these snapshots and then, if asked to, wait for ever."""

    def set_(*snapshots: TaskSnapshot, then_wait: bool = False) -> list[bool]:
        closed: list[bool] = []

        async def fake(viewer: Any, task_id: Any) -> AsyncIterator[TaskSnapshot]:
            assert viewer.sees_all
            try:
                for it in snapshots:
                    yield it
                if then_wait:
                    await asyncio.Event().wait()
            finally:
                closed.append(True)

        monkeypatch.setattr(service, "watch", fake)
        return closed

    return set_


def test_waiting_in_a_thread(watch: Any) -> None:
    """`result()` waits for the final state and closes its watch."""
    closed = watch(snapshot("running"), snapshot("completed", 3, result={"rows": 3}))
    handle = TaskHandle(snapshot())
    assert handle.result(TIMEOUT) == {"rows": 3}
    assert handle.status == "completed"
    assert closed == [True]


async def test_waiting_in_a_coroutine(watch: Any) -> None:
    """`aresult()`: a cancelled task is an exception."""
    watch(snapshot("running"), snapshot("cancelled", 3, error="Cancelled."))
    with pytest.raises(TaskCancelled):
        await TaskHandle(snapshot()).aresult(TIMEOUT)


async def test_waiting_has_an_end(watch: Any) -> None:
    """TimeoutError; the handle has seen the last state, and can wait again."""
    closed = watch(snapshot("running"), then_wait=True)
    handle = TaskHandle(snapshot())
    with pytest.raises(TimeoutError):
        await handle.aresult(timeout=0.01)
    assert handle.status == "running"
    assert closed == [True]


def test_waiting_in_a_thread_has_an_end(watch: Any) -> None:
    """The same without a loop."""
    watch(snapshot("running"), then_wait=True)
    with pytest.raises(TimeoutError):
        TaskHandle(snapshot()).result(timeout=0.01)


async def test_a_watch_that_ends_early_is_no_result(watch: Any) -> None:
    """A process that drains says so, instead of a task that returned None."""
    watch(snapshot("running"))
    with pytest.raises(BackendUnavailable):
        await TaskHandle(snapshot()).aresult()


async def test_waiting_does_not_block_a_loop() -> None:
    """`result()` on a loop is refused, with what to write; a result that is there is given."""
    with pytest.raises(RuntimeError, match="aresult"):
        TaskHandle(snapshot()).result()
    assert TaskHandle(snapshot("completed", result=3)).result() == 3


@ONE_DATABASE
async def test_a_real_task_is_waited_for(configure: Configure, database: object) -> None:
    """Started on a loop and awaited there, and waited for from a thread meanwhile."""
    configure(backend="asyncio")
    from rail_async_tasks.hosting import process as host

    try:
        handle = await shop.climb.aenqueue(steps=3, pause=0.05)
        other = TaskHandle(handle.snapshot)
        in_thread: list[Any] = []
        thread = threading.Thread(target=lambda: in_thread.append(other.result(TIMEOUT)))
        thread.start()
        assert await handle.aresult(TIMEOUT) == "top"
        await asyncio.to_thread(thread.join)
        assert in_thread == ["top"]
        slow = await shop.climb.aenqueue(steps=100_000, pause=0.05)
        await slow.acancel()
        with pytest.raises(TaskCancelled):
            await slow.aresult(TIMEOUT)
        assert slow.status == "cancelled"
    finally:
        await host.astop()


def test_the_public_names() -> None:
    """Each name of `__all__` is there; others are not."""
    for name in rail_async_tasks.__all__:
        assert getattr(rail_async_tasks, name) is not None
    assert set(rail_async_tasks.__all__) <= set(dir(rail_async_tasks))
    with pytest.raises(AttributeError, match="no_such_name"):
        rail_async_tasks.no_such_name  # noqa: B018


def test_tasks_can_be_declared_before_any_model_exists() -> None:
    """Importing the decorators needs no configured Django: a declaration may stand anywhere."""
    code = (
        "from rail_async_tasks import task, task_mutation, TaskError, Retry\n"
        "@task\nasync def one(n: int): ...\n"
        "@task_mutation\nasync def two(n: int): ...\n"
        "print(one, two)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "<Task one> <MutationTask two>\n"
