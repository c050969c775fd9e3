"""The `sync` backend: every attempt at once, in the caller's thread and transaction."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction
from django.test import TestCase, override_settings

from rail_async_tasks import queues, service
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.declaration.definition import define
from rail_async_tasks.errors import Fail
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.unique import unique_key
from rail_async_tasks.service import EnqueueOptions
from rail_async_tasks.snapshot import TaskSnapshot

SETTINGS = {"task_settings": {"backend": "sync"}}
calls: list[Any] = []


@pytest.fixture(autouse=True)
def declarations_are_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that a test declares are forgotten after it."""
    for name in ("_definitions", "coroutine_names", "thread_names"):
        monkeypatch.setattr(registry, name, getattr(registry, name))


def _declared(function: Any, **options: Any) -> Any:
    return registry.register(define(function, name=f"inline.{function.__name__}", **options))


def _add(n: int) -> int:
    Group.objects.create(name=f"group {n}")
    calls.append(threading.current_thread())
    return n + 1


async def _aadd(n: int) -> int:
    await Group.objects.acreate(name=f"group {n}")
    return n + 1


def _flaky(info: Any, fails: int) -> int:
    calls.append((info.context.task.attempt, time.monotonic()))
    if info.context.task.attempt <= fails:
        Group.objects.create(name="left by a failed attempt")
        raise ValueError("not yet")
    return info.context.task.attempt


def _breaks_its_transaction() -> None:
    Group.objects.create(name="twice")
    Group.objects.create(name="twice")


def _fails() -> None:
    raise Fail("never")


async def _slow() -> None:
    await asyncio.Event().wait()


async def _late(info: Any) -> int:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return int(info.context.task.attempt)
    return 0


def _progresses(info: Any) -> str:
    for percent in range(0, 101, 10):
        info.context.task.update_progress(percent, f"at {percent}")
    return str(info.context.user.pk)


async def _aprogresses(info: Any) -> str:
    for percent in info.context.task.track(range(5), message="step"):
        info.context.task.update_progress(percent, f"at {percent}")
    return "done"


async def _gives_up() -> None:
    raise GeneratorExit


ADD = _declared(_add)
APROGRESSES = _declared(_aprogresses)
GIVES_UP = _declared(_gives_up, max_retries=0)
AADD = _declared(_aadd)
FLAKY = _declared(_flaky, retry_delay=3600.0, max_retries=2)
BREAKS = _declared(_breaks_its_transaction, max_retries=0)
FAILS = _declared(_fails)
SLOW = _declared(_slow, timeout=0.01, max_retries=1, retry_delay=3600.0)
LATE = _declared(_late, timeout=0.01, max_retries=1)
PROGRESSES = _declared(_progresses)


@pytest.fixture(autouse=True)
def inline(settings: Any) -> Iterator[None]:
    settings.RAIL_DJANGO_GRAPHQL = SETTINGS
    calls.clear()
    yield
    assert host.current() is None, "nothing needs a runtime"


def run(definition: Any, /, _options: EnqueueOptions | None = None, **arguments: Any) -> Any:
    snapshot = service.enqueue(definition, arguments, _options or EnqueueOptions())
    row = TaskExecution.objects.get(id=snapshot.id)
    assert (row.status, row.seq, row.progress, row.error) == (
        snapshot.status, snapshot.seq, snapshot.progress, snapshot.error,
    )  # fmt: skip
    assert service.get(SYSTEM, snapshot.id) == snapshot
    return snapshot


@override_settings(RAIL_DJANGO_GRAPHQL=SETTINGS)
class InATestCase(TestCase):
    """Inside the atomic blocks of Django's own TestCase."""

    def test_a_task_runs_to_its_end(self) -> None:
        """The result is there when `enqueue` returns, in this thread and transaction."""
        snapshot = run(ADD, n=1)
        assert (snapshot.status, snapshot.result, snapshot.attempts) == ("completed", 2, 1)
        assert Group.objects.filter(name="group 1").exists()
        assert calls == [threading.current_thread()]

    def test_an_async_body_sees_the_transaction(self) -> None:
        """Its ORM calls use the caller's connection."""
        assert run(AADD, n=2).result == 3
        assert Group.objects.filter(name="group 2").exists()

    async def test_from_a_loop(self) -> None:
        """`aenqueue` in an async test of a TestCase."""
        for definition in (ADD, AADD):
            snapshot = await service.aenqueue(definition, {"n": id(definition)})
            assert (snapshot.status, snapshot.result) == ("completed", id(definition) + 1)
        assert await Group.objects.acount() == 2

    def test_a_body_that_breaks_its_transaction_does_not_break_ours(self) -> None:
        """It ran in a savepoint."""
        Group.objects.create(name="ours")
        snapshot = run(BREAKS)
        assert (snapshot.status, snapshot.error_code) == ("failed", "exception")
        assert [group.name for group in Group.objects.all()] == ["ours"]


@pytest.mark.django_db
def test_retries_do_not_wait() -> None:
    """An hour's delay is none; a failed attempt's writes are rolled back within a transaction."""
    with transaction.atomic():
        snapshot = run(FLAKY, fails=2)
    assert (snapshot.status, snapshot.result, snapshot.retry_count) == ("completed", 3, 2)
    assert [attempt for attempt, _ in calls] == [1, 2, 3]
    assert not Group.objects.exists()
    # pending, then each attempt's claim and end
    assert snapshot.seq == 1 + 3 * 2


@pytest.mark.django_db
def test_the_last_retry_fails_it() -> None:
    """With the last error."""
    snapshot = run(FLAKY, fails=9)
    assert (snapshot.status, snapshot.attempts, snapshot.retry_count) == ("failed", 3, 2)
    assert (snapshot.error, snapshot.error_code) == ("not yet", "exception")


@pytest.mark.django_db
def test_fail_is_for_good() -> None:
    """One attempt, the public message."""
    snapshot = run(FAILS)
    assert (snapshot.status, snapshot.attempts, snapshot.error) == ("failed", 1, "never")


@pytest.mark.django_db
def test_a_coroutine_times_out() -> None:
    """Each attempt after its own time."""
    snapshot = run(SLOW)
    assert (snapshot.status, snapshot.error_code, snapshot.attempts) == ("failed", "timeout", 2)


@pytest.mark.django_db(transaction=True)
def test_a_body_that_returns_after_its_timeout_has_completed() -> None:
    """As on every backend: its work is done."""
    snapshot = run(LATE)
    assert (snapshot.status, snapshot.result, snapshot.retry_count) == ("completed", 1, 0)


@pytest.mark.django_db
def test_a_delay_is_not_waited_for() -> None:
    """The start asks for an hour; it runs now, and the row has the time when it did."""
    snapshot = run(ADD, EnqueueOptions(delay=3600), n=1)
    assert (snapshot.status, snapshot.run_after) == ("completed", None)


@pytest.mark.django_db
def test_info_has_the_owner_and_progress_is_kept() -> None:
    """A loaded user; the last message stays with the row."""
    user = get_user_model().objects.create_user("ada")
    snapshot = run(PROGRESSES, EnqueueOptions(owner_id=str(user.pk)))
    assert (snapshot.result, snapshot.progress) == (str(user.pk), 100)
    assert snapshot.progress_message == "at 100"


@pytest.mark.django_db
def test_a_key_that_an_unfinished_task_has_leads_to_it() -> None:
    """And nothing runs."""
    options = EnqueueOptions(unique_key="k")
    first = run(ADD, options, n=1)
    again = run(ADD, options, n=2)
    assert first.id != again.id  # the first had ended
    key = unique_key(ADD, b"", given="k")
    waiting = TaskExecution.objects.create(
        name=ADD.name, status="pending", queue="default", unique_key=key,
        created_at=first.created_at, updated_at=first.created_at,
    )  # fmt: skip
    assert service.enqueue(ADD, {"n": 3}, options).id == waiting.id
    assert len(calls) == 2


def test_without_a_transaction_each_step_is_committed(database: Any) -> None:
    """Another thread's connection sees the row while the body runs, and its end after it."""
    seen: list[str] = []

    def look() -> None:
        seen.extend(TaskExecution.objects.values_list("status", flat=True))
        transaction.get_connection().close()

    def body() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    definition = define(body, name="inline.looked_at")
    registry.register(definition)
    snapshot = run(definition)
    assert seen == ["running"]
    assert snapshot.status == "completed"


def test_it_rolls_back_with_the_callers_transaction(database: Any) -> None:
    """The row and what the body wrote are part of the caller's work."""
    with transaction.atomic():
        assert run(ADD, n=1).status == "completed"
        transaction.set_rollback(True)
    assert not Group.objects.exists()
    assert not TaskExecution.objects.exists()


def _opens_two() -> None:
    transaction.atomic().__enter__()
    Group.objects.create(name="outer")
    transaction.atomic().__enter__()
    Group.objects.create(name="inner")


def _turns_autocommit_off() -> None:
    transaction.set_autocommit(False)
    Group.objects.create(name="never committed")


async def _opens_one() -> None:
    await sync_to_async(transaction.atomic().__enter__)()
    await Group.objects.acreate(name="never committed")


@pytest.mark.parametrize("body", [_opens_two, _turns_autocommit_off, _opens_one])
def test_a_transaction_that_a_body_leaves_open_ends_with_the_body(
    database: Any, caplog: pytest.LogCaptureFixture, body: Any
) -> None:
    """Its writes are rolled back, with a WARNING; the caller goes on, and the row is stored."""
    snapshot = run(registry.register(define(body, name=f"inline.{body.__name__}")))
    assert f"Task {snapshot.name} ({snapshot.id}) ended in an open transaction" in caplog.text
    connection = transaction.get_connection()
    assert (connection.in_atomic_block, connection.get_autocommit()) == (False, True)
    assert not Group.objects.exists()
    assert TaskExecution.objects.get(id=snapshot.id).status == "completed"


@pytest.mark.parametrize("body", [_opens_two, _opens_one])
def test_a_callers_transaction_outlasts_what_a_body_leaves_open(database: Any, body: Any) -> None:
    """The body's writes are gone, the caller's and the row are committed."""
    with transaction.atomic():
        Group.objects.create(name="the caller's")
        snapshot = run(registry.register(define(body, name=f"inline.{body.__name__}")))
    assert [group.name for group in Group.objects.all()] == ["the caller's"]
    assert TaskExecution.objects.get(id=snapshot.id).status == "completed"


async def test_from_a_loop_without_a_test_case(database: Any, loop_kind: str) -> None:
    """In a thread, so that the loop is not held; a watcher sees the end."""
    snapshot = await service.aenqueue(AADD, {"n": 5})
    assert snapshot.result == 6
    watched: list[TaskSnapshot] = [it async for it in service.watch(SYSTEM, snapshot.id)]
    assert watched == [snapshot]
    assert await sync_to_async(Group.objects.count)() == 1


@pytest.mark.django_db
def test_a_coroutine_may_report_progress() -> None:
    """Its row gets the last of it with the outcome."""
    snapshot = run(APROGRESSES)
    assert (snapshot.status, snapshot.error, snapshot.result) == ("completed", None, "done")


@pytest.mark.django_db
def test_a_body_that_raises_generator_exit_has_failed() -> None:
    """As under the other backends."""
    snapshot = run(GIVES_UP)
    assert (snapshot.status, snapshot.error_code) == ("failed", "exception")


def _ends() -> str:
    calls.append("ended")
    return "done"


@pytest.mark.django_db
def test_a_paused_queue_accepts_and_does_not_start() -> None:
    """What waits runs in the call that resumes the queue, until a body pauses it again."""

    def pauses() -> None:
        queues.pause("low")

    ends, again = _declared(_ends, queue="low"), _declared(pauses, queue="low")
    with override_settings(RAIL_DJANGO_GRAPHQL=SETTINGS):
        queues.pause("low", by="7")
        waiting = service.enqueue(ends, {}, EnqueueOptions())
        assert (waiting.status, waiting.attempts) == ("pending", 0)
        before = len(calls)
        service.enqueue(again, {}, EnqueueOptions(priority=-1))
        last = service.enqueue(ends, {}, EnqueueOptions(priority=-2))
        queues.resume("low")
        assert calls[before:] == ["ended"]
        assert service.get(SYSTEM, waiting.id).status == "completed"
        assert service.get(SYSTEM, last.id).status == "pending"
        queues.resume("low")
        assert service.get(SYSTEM, last.id).result == "done"
