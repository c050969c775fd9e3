"""Django's tasks from coroutines: the twins with an `a`, on the runtime's own loop and inline."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.django_tasks import bodies
from tests.django_tasks.api import (
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    default_task_backend,
    task_backends,
)
from tests.django_tasks.conftest import Signals, on_sqlite
from tests.django_tasks.results import afinished
from tests.support.runtimes import Configure
from tests.support.waiting import eventually

pytestmark = [on_sqlite, pytest.mark.usefixtures("configure", "ends_cleanly")]


async def test_enqueue_and_result(backend: str) -> None:
    """`def` and `async def` alike."""
    for function in (bodies.echo, bodies.aecho):
        result = await function.aenqueue(1, key=(2,))
        if backend != "sync":
            assert result.status == TaskResultStatus.READY
        await afinished(result)
        assert result.return_value == {"args": [1], "kwargs": {"key": [2]}}
        assert (await function.aget_result(result.id)).return_value == result.return_value
        assert (await default_task_backend.aget_result(result.id)).id == result.id


async def test_an_async_def_fails_with_its_error(backend: str) -> None:
    result = await afinished(await bodies.arefuse.aenqueue())
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is KeyError
    with pytest.raises(TaskResultMismatch):
        await bodies.echo.aget_result(result.id)
    with pytest.raises(TaskResultDoesNotExist):
        await task_backends["patient"].aget_result(result.id)


async def test_arguments_that_do_not_fit_an_async_def(backend: str) -> None:
    """A mistake of the program: it is not retried."""
    result = await afinished(await bodies.arefuse.using(backend="patient").aenqueue(1))
    assert result.errors[0].exception_class is TypeError
    assert result.attempts == 1


async def test_an_argument_without_json_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        await bodies.echo.aenqueue(object())


async def test_enqueue_on_a_loop_says_what_to_write() -> None:
    """It would block the loop."""
    with pytest.raises(RuntimeError, match=r"await echo\.aenqueue"):
        bodies.echo.enqueue()


async def test_a_context_reports_progress(backend: str) -> None:
    """`context.task`, `context.user`, `context.tenant_id`; the name is the module path."""
    result = await afinished(await bodies.report.aenqueue())
    assert result.return_value == ["AnonymousUser", None, "tests.django_tasks.bodies.report"]
    assert result.handle.snapshot.progress == 100
    assert result.handle.snapshot.progress_message == "half"


async def test_signals_are_sent(backend: str, signals: Signals) -> None:
    """Once each, with the result as it is then; asynchronous receivers too."""
    heard: list[str] = []

    async def hear(sender: Any, task_result: Any, **_: Any) -> None:
        heard.append(sender.__name__)

    from tests.django_tasks.api import task_started

    task_started.connect(hear)
    try:
        result = await afinished(await bodies.aecho.aenqueue(1))
        await eventually(lambda: len(signals) == 3)
    finally:
        task_started.disconnect(hear)
    expected = {"enqueued READY", "started RUNNING", "finished SUCCESSFUL"}
    assert {name for name, _ in signals} == expected
    assert {it.id for _, it in signals} == {result.id}
    assert heard == ["TaskBackend"]


async def test_a_delay_is_kept(configure: Configure) -> None:
    configure(backend="asyncio")
    result = await bodies.aecho.using(run_after=timedelta(seconds=0.05)).aenqueue()
    await afinished(result)
    assert result.started_at - result.enqueued_at >= timedelta(seconds=0.05)
