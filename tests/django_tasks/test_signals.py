"""Django's signals: sent by the process that does it, in order, and stopping nothing."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

import pytest

from rail_async_tasks import service
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.contrib.django_tasks import signals as sending
from rail_async_tasks.models import TaskExecution
from tests.django_tasks import bodies
from tests.django_tasks.api import TaskResultStatus, task_enqueued, task_finished, task_started
from tests.django_tasks.conftest import Signals, on_sqlite
from tests.django_tasks.results import finished
from tests.support.runtimes import Configure
from tests.support.waiting import TIMEOUT, wait_for

pytestmark = [on_sqlite, pytest.mark.usefixtures("configure")]


def names(signals: Signals) -> list[str]:
    return [name for name, _ in signals]


def test_each_is_sent_once(backend: str, signals: Signals) -> None:
    """With the arguments, also where the task fails."""
    result = finished(bodies.refuse.enqueue(text="why"))
    wait_for(lambda: len(signals) == 3)
    assert sorted(names(signals)) == ["enqueued READY", "finished FAILED", "started RUNNING"]
    assert all(it.id == result.id and it.kwargs == {"text": "why"} for _, it in signals)
    last = dict(signals)["finished FAILED"]
    assert last.errors[0].exception_class is bodies.Refused
    assert last.finished_at is not None
    assert last.task.func is bodies.refuse.func


def test_the_order_under_sync(configure: Configure, signals: Signals) -> None:
    """All before `enqueue()` returns, as with Django's ImmediateBackend."""
    configure(backend="sync")
    bodies.echo.enqueue()
    assert names(signals) == ["enqueued READY", "started RUNNING", "finished SUCCESSFUL"]


def test_each_attempt_starts_and_the_last_one_finishes(
    configure: Configure, signals: Signals
) -> None:
    configure(backend="sync")
    bodies.describe.using(backend="patient").enqueue(fails=1)
    assert names(signals) == [
        "enqueued READY", "started RUNNING", "started RUNNING", "finished SUCCESSFUL",
    ]  # fmt: skip


@pytest.mark.parametrize("signal", [task_enqueued, task_started, task_finished])
def test_a_receiver_that_raises_stops_nothing(
    signal: Any, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Django logs it."""

    def fail(**_: Any) -> None:
        raise RuntimeError("a receiver")

    signal.connect(fail)
    try:
        result = finished(bodies.echo.enqueue(1))
        assert result.status == TaskResultStatus.SUCCESSFUL
        wait_for(lambda: "a receiver" in caplog.text)
    finally:
        signal.disconnect(fail)


def test_receivers_may_use_the_orm(backend: str) -> None:
    """Also of a task that ended on a loop."""
    counted: list[Any] = []

    def count(task_result: Any, **_: Any) -> None:
        counted.append((TaskExecution.objects.count(), threading.current_thread()))

    for signal in (task_enqueued, task_started, task_finished):
        signal.connect(count)
    try:
        finished(bodies.aecho.enqueue())
        wait_for(lambda: len(counted) == 3)
    finally:
        for signal in (task_enqueued, task_started, task_finished):
            signal.disconnect(count)
    rows = 0 if backend == "memory" else 1
    assert [found for found, _ in counted] == [rows] * 3


def test_a_cancelled_task_finishes(configure: Configure, signals: Signals) -> None:
    """It never started."""
    configure(backend="thread")
    result = bodies.echo.using(run_after=timedelta(hours=1)).enqueue(4)
    result.handle.cancel()
    wait_for(lambda: len(signals) == 2)
    assert names(signals) == ["enqueued READY", "finished FAILED"]
    assert signals[1][1].args == [4]


def test_a_retry_by_hand_is_enqueued(backend: str, signals: Signals) -> None:
    """From the dashboard, GraphQL or REST: no `enqueue()` of Django's is called."""
    result = finished(bodies.echo.enqueue(5))
    wait_for(lambda: len(signals) == 3)
    signals.clear()
    again = service.retry(SYSTEM, result.id)
    wait_for(lambda: len(signals) == 3)
    assert {it.id for _, it in signals} == {str(again.id)}
    assert sorted(names(signals)) == ["enqueued READY", "finished SUCCESSFUL", "started RUNNING"]
    assert finished(bodies.echo.get_result(str(again.id))).return_value["args"] == [5]


def test_our_own_tasks_send_none(configure: Configure, signals: Signals) -> None:
    configure(backend="sync")
    from rail_async_tasks import task

    handle = task(name="own")(_own).enqueue(number=1)
    # The last signal of the test before may come only now.
    assert str(handle.id) not in {it.id for _, it in signals}


def _own(number: int) -> int:
    return number


def test_the_end_of_the_process_waits_for_receivers(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`flush()` returns once what was to be sent is sent."""
    configure(backend="thread")
    monkeypatch.setattr(sending, "FLUSH_TIMEOUT", TIMEOUT)
    entered, go, heard = threading.Event(), threading.Event(), threading.Event()

    def receive(**_: Any) -> None:
        entered.set()
        go.wait(TIMEOUT)
        heard.set()

    task_finished.connect(receive)
    try:
        finished(bodies.echo.enqueue())
        # The row is final a moment before the signal is on its way.
        assert entered.wait(TIMEOUT)
        threading.Timer(0.05, go.set).start()
        sending.flush()
        assert heard.is_set()
    finally:
        task_finished.disconnect(receive)


def test_djangos_log_lines_are_written(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Django's own receivers log at INFO, failures at ERROR."""
    configure(backend="sync")
    with caplog.at_level(logging.INFO):
        bodies.refuse.enqueue()
    lines = [it for it in caplog.records if it.name in {"django.tasks", "django_tasks"}]
    assert [it.levelname for it in lines] == ["INFO", "ERROR"]
    assert "tests.django_tasks.bodies.refuse" in lines[1].getMessage()
