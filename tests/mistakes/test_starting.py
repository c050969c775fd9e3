"""Mistakes where tasks are started and their results are read."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from rail_async_tasks import Task, TaskHandle, task
from rail_async_tasks.ids import new_id
from tests.mistakes.making import failed, raised, refused
from tests.mistakes.mistake import mistake


@pytest.fixture
def in_memory(settings: Any) -> None:
    """Tasks run in `enqueue()`, and their rows are in memory."""
    settings.RAIL_DJANGO_GRAPHQL = {
        "task_settings": {"backend": "sync", "track_in_database": False}
    }


# --- starting ------------------------------------------------------------------------------------


@mistake(
    "`report.delay(3)`, `.send()`, `.kiq()`, `.defer()`",
    says="object has no attribute 'delay'.",
    do="Start the task by report.enqueue(...), in async code by `await report.aenqueue(...)`.",
    where="`AttributeError`",
)
def test_delay(report: Task) -> str:
    for name in ("send", "kiq", "defer"):
        assert "report.enqueue" in raised(AttributeError, lambda name=name: getattr(report, name))
    return raised(AttributeError, lambda: report.delay(3))


@mistake(
    "`report.apply_async(args, countdown=60)`",
    says="object has no attribute 'apply_async'.",
    do='Options go before it: report.using(delay=60, queue="low").enqueue(...).',
    where="`AttributeError`",
)
def test_apply_async(report: Task) -> str:
    return raised(AttributeError, lambda: report.apply_async((3,)))


@mistake(
    "`report.using(countdown=60)`",
    says="using() takes no 'countdown';",
    do="write delay=..., in seconds or as a timedelta.",
    where="`TypeError`",
)
def test_countdown(report: Task) -> str:
    return raised(TypeError, lambda: report.using(countdown=60))


@mistake(
    "`report(count=3)`, to start it",
    says="missing 1 required positional argument: 'info'",
    do="To start the task, write report.enqueue(...)",
    where="`TypeError`",
)
def test_call(report: Task) -> str:
    return raised(TypeError, lambda: report(count=3))


@mistake(
    "Too many arguments",
    says="takes 2 arguments by position (count, customer), not 3;",
    do="leave root and info out.",
    where="`InvalidArguments`",
)
def test_too_many_arguments(report: Task) -> str:
    return refused(lambda: report.enqueue(None, 3, "x"))


@mistake(
    "A misspelt argument",
    says="Task 'report' has no argument 'cuont';",
    do="did you mean 'count'",
    where="`InvalidArguments`",
)
def test_misspelt_argument(report: Task) -> str:
    return refused(lambda: report.enqueue(cuont=3))


@mistake(
    "A missing argument",
    says="Argument 'count' of task 'report'",
    do="is required.",
    where="`InvalidArguments`",
)
def test_missing_argument(report: Task) -> str:
    return refused(report.enqueue)


@mistake(
    "A model as the value of an argument",
    says="Argument count: expected an int, got User;",
    do="pass its primary key.",
    where="`InvalidArguments`",
)
def test_model_as_a_value(report: Task) -> str:
    return refused(lambda: report.enqueue(count=User(pk=3)))


@mistake(
    "`handle.progress`, `.error`, `.attempts`, `.name`",
    says="object has no attribute 'progress'.",
    do="Read handle.snapshot.progress: as it was when the task was last read.",
    where="`AttributeError`",
)
@pytest.mark.usefixtures("in_memory")
def test_progress_of_a_handle(report: Task) -> str:
    handle: Any = report.enqueue(count=3)
    for name in ("error", "attempts", "name"):
        assert f"snapshot.{name}" in raised(AttributeError, lambda name=name: getattr(handle, name))
    return raised(AttributeError, lambda: handle.progress)


@mistake(
    "`TaskHandle(task_id)`",
    says="TaskHandle is not made from 'str': enqueue() and aenqueue() return one.",
    do="From an id alone, read the task by rail_async_tasks.models.TaskExecution",
    where="`TypeError`",
)
def test_a_handle_of_an_id() -> str:
    return raised(TypeError, lambda: TaskHandle(str(new_id())))  # type: ignore[arg-type]


@mistake(
    "A queue that is not there",
    says="There is no queue 'hihg'. Known are",
    do='add others to the "queues" setting.',
    where="`UnknownQueue`",
)
def test_misspelt_queue(report: Task) -> str:
    return refused(lambda: report.using(queue="hihg").enqueue(count=3))


@mistake(
    "`enqueue()` in an `async def`",
    says="report.enqueue() was called on an event loop, which it would block:",
    do="write `await report.aenqueue(...)`.",
    where="`RuntimeError`",
)
async def test_enqueue_on_the_loop(report: Task) -> str:
    return raised(RuntimeError, lambda: report.enqueue(count=3))


@mistake(
    "No `await` before `aenqueue()`",
    says="coroutine 'Task.aenqueue' was never awaited",
    do="awaited",
    where="`RuntimeWarning`",
)
async def test_forgotten_await(report: Task) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report.aenqueue(count=3)  # type: ignore[unused-coroutine]
        gc.collect()
    return "\n".join(str(it.message) for it in caught)


# --- results -------------------------------------------------------------------------------------


@mistake(
    "`handle.get()`",
    says="'TaskHandle' object has no attribute 'get'.",
    do="Wait by handle.result(timeout), in async code by `await handle.aresult(timeout)`;",
    where="`AttributeError`",
)
@pytest.mark.usefixtures("in_memory")
def test_get(report: Task) -> str:
    handle: Any = report.enqueue(count=3)
    return raised(AttributeError, lambda: handle.get(timeout=3))


@mistake(
    "`handle.successful()`, `.ready()`, `.state`",
    says="'TaskHandle' object has no attribute 'successful'.",
    do="Read the task again by handle.refresh()",
    where="`AttributeError`",
)
@pytest.mark.usefixtures("in_memory")
def test_successful(report: Task) -> str:
    handle: Any = report.enqueue(count=3)
    return raised(AttributeError, lambda: handle.successful)


@mistake(
    "`result()` in an `async def`",
    says="result() was called on an event loop, which it would block:",
    do="write `await handle.aresult()`.",
    where="`RuntimeError`",
)
async def test_result_on_the_loop(report: Task, settings: Any) -> str:
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"track_in_database": False}}
    from rail_async_tasks.hosting import process

    handle = await report.using(delay=60).aenqueue(count=3)
    try:
        return raised(RuntimeError, handle.result)
    finally:
        await process.astop()


@mistake(
    "`result()` in the transaction that has enqueued the task, so in a `TestCase`",
    says="was called inside the transaction that has enqueued it, and the task starts only after"
    " the commit.",
    do="Call result() after the `atomic()` block. In a test whose transaction is never committed"
    " (TestCase, or pytest's `db`), run the task by rail_tasks.run() or self.tasks.run()",
    where="`WouldWaitForever`",
)
@pytest.mark.django_db
def test_result_in_a_transaction(report: Task) -> str:
    with transaction.atomic():
        handle: TaskHandle[Any] = report.enqueue(count=3)
        return refused(lambda: handle.result(timeout=1))


# --- bodies --------------------------------------------------------------------------------------


@mistake(
    "A result that is not JSON",
    says="result: User has no JSON form;",
    do="return its pk, or a dict of the fields that matter.",
    where="the task's `error`",
)
@pytest.mark.django_db
def test_model_as_a_result() -> str:
    @task
    def load() -> Any:
        return User(pk=3)

    return failed(load)


@mistake(
    "`update_progress(150)`",
    says="progress is a percentage from 0 to 100, not 150",
    do="a percentage from 0 to 100",
    where="the task's `error`",
)
@pytest.mark.django_db
def test_progress_past_the_end() -> str:
    @task
    def load(info: Any) -> None:
        info.context.task.update_progress(150)

    return failed(load)


@mistake(
    "`info.context.task.update_state(...)`",
    says="'TaskContext' object has no attribute 'update_state'.",
    do="Report progress by info.context.task.update_progress(percent, message).",
    where="the task's `error`",
)
@pytest.mark.django_db
def test_update_state() -> str:
    @task
    def load(info: Any) -> None:
        info.context.task.update_state(state="PROGRESS", meta={"done": 3})

    return failed(load)


@mistake(
    "`info.context.request` in a body",
    says="'ExecutionContext' object has no attribute 'request'.",
    do="info.context.user is the user who started the task, info.context.tenant_id the tenant."
    " Pass what else it needs as arguments.",
    where="the task's `error`",
)
@pytest.mark.django_db
def test_request_in_a_body() -> str:
    @task
    def load(info: Any) -> Any:
        return info.context.request.user.pk

    return failed(load)


@mistake(
    "The ORM in an `async def` task",
    says="You cannot call this from an async context",
    do="use the ORM's async methods, such as `await x.aget()` and `async for`, or make the task a"
    " `def`, which runs in a thread.",
    where="the task's `error`",
)
@pytest.mark.django_db(transaction=True)
def test_orm_on_the_loop() -> str:
    @task
    async def load() -> int:
        return User.objects.count()

    return failed(load)
