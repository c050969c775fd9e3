"""What Django's documentation says of tasks, row by row, in threads: each backend of ours.

Rows are in docs/from-django-tasks.md; coroutine callers are in `test_async.py`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from rail_async_tasks import InvalidArguments, TaskCancelled
from tests.django_tasks import bodies
from tests.django_tasks.api import (
    InvalidTask,
    TaskContext,
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    default_task_backend,
    task,
    task_backends,
)
from tests.django_tasks.conftest import on_sqlite
from tests.django_tasks.results import finished, running
from tests.support.runtimes import Configure
from tests.support.waiting import wait_for

pytestmark = [on_sqlite, pytest.mark.usefixtures("configure")]


# --- declaring ------------------------------------------------------------------------------------


def test_a_task_is_an_instance_with_djangos_attributes() -> None:
    """`@task` returns a Task; the function stays callable as `call()` and `func`."""
    assert bodies.mail.queue_name == "mail"
    assert bodies.echo.name == "echo"
    assert bodies.echo.module_path == "tests.django_tasks.bodies.echo"
    assert (bodies.echo.priority, bodies.echo.backend, bodies.echo.run_after) == (
        0, "default", None,
    )  # fmt: skip
    assert bodies.typed.call(1) == ["int", "NoneType"]


def test_using_copies() -> None:
    """The original stays as it is."""
    changed = bodies.echo.using(priority=10, queue_name="mail")
    assert (changed.priority, changed.queue_name) == (10, "mail")
    assert (bodies.echo.priority, bodies.echo.queue_name) == (0, "default")


@pytest.mark.parametrize("priority", [-101, 101, 1.5])
def test_a_priority_is_a_whole_number_from_minus_100_to_100(priority: Any) -> None:
    with pytest.raises(InvalidTask, match="priority"):
        bodies.echo.using(priority=priority)


def test_a_function_must_be_at_module_level() -> None:
    def inner() -> None: ...

    with pytest.raises(InvalidTask, match="module level"):
        task(inner)


def test_a_context_must_be_the_first_argument() -> None:
    with pytest.raises(InvalidTask, match="context"):
        task(takes_context=True)(bodies.plain)


def test_run_after_must_be_aware() -> None:
    with pytest.raises(InvalidTask, match="aware"):
        bodies.echo.using(run_after=datetime(2030, 1, 1))


def test_a_queue_must_be_in_queues() -> None:
    """By the alias's own QUEUES; an empty list allows every name."""
    with pytest.raises(InvalidTask, match="Queue 'other' is not valid"):
        bodies.echo.using(queue_name="other")
    with pytest.raises(InvalidTask, match="Queue 'mail' is not valid"):
        bodies.echo.using(queue_name="mail", backend="patient")
    assert bodies.echo.using(queue_name="other", backend="open").queue_name == "other"


@pytest.mark.parametrize("queue", ["", " x", "x" * 101, "\0"])
def test_a_queue_must_fit_its_column(queue: str) -> None:
    """Where QUEUES allow every name."""
    with pytest.raises(InvalidTask, match="queue_name"):
        bodies.echo.using(queue_name=queue, backend="open")


def test_an_enqueue_validates_again() -> None:
    """QUEUES may have changed since the declaration."""
    task_backends["default"].queues.discard("mail")
    with pytest.raises(InvalidTask):
        bodies.mail.enqueue(1)


def test_a_generator_is_no_task() -> None:
    with pytest.raises(InvalidTask, match="generator"):
        task(_generate)


def _generate() -> Any:
    yield 1


def test_the_backend_supports_everything() -> None:
    """The four flags."""
    backend = task_backends["default"]
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority


# --- enqueue, and the result ----------------------------------------------------------------------


def test_a_result_from_ready_to_successful(backend: str) -> None:
    """Its status, times, arguments and return value."""
    before = timezone.now() - timedelta(seconds=1)
    result = bodies.echo.enqueue(1, "two", key=[None])
    assert len(result.id) < 64
    assert UUID(result.id)
    assert result.backend == "default"
    assert result.args == [1, "two"]
    assert result.kwargs == {"key": [None]}
    if backend != "sync":
        assert result.status == TaskResultStatus.READY
        assert result.started_at is result.finished_at is None
        assert result.attempts == 0
    finished(result)
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.is_finished
    assert result.return_value == {"args": [1, "two"], "kwargs": {"key": [None]}}
    assert result.errors == []
    assert result.attempts == len(result.worker_ids) == 1
    assert before < result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ((1, (2,)), [1, [2]]),
        (b"bytes", "bytes"),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        (1.0, 1.0),
        ({"n": {"b": 1, "a": [1.5, None, True]}}, {"n": {"b": 1, "a": [1.5, None, True]}}),
        ("ü\u2028", "ü\u2028"),
    ],
)  # fmt: skip
def test_arguments_go_through_json(given: Any, read: Any, configure: Configure) -> None:
    """Positional and keyword ones; what JSON changes is changed, and nothing else."""
    configure(backend="sync")
    result = bodies.echo.enqueue(given, key=given)
    assert result.return_value == {"args": [read], "kwargs": {"key": read}}
    again = bodies.echo.get_result(result.id)
    assert again.args == [read]
    assert again.kwargs == {"key": read}


def test_annotations_convert_nothing(configure: Configure) -> None:
    """The function gets the JSON that was passed, whatever it is annotated with."""
    configure(backend="sync")
    assert bodies.typed.enqueue("7", at="2026-01-01").return_value == ["str", "str"]


@pytest.mark.parametrize("value", [object(), {1, 2}, datetime(2026, 1, 1), {(1,): 2}])
def test_an_argument_without_json_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        bodies.echo.enqueue(value)
    with pytest.raises(TypeError):
        bodies.echo.enqueue(key=value)


@pytest.mark.parametrize("value", [float("nan"), "nul \0", "\ud800"])
def test_an_argument_that_no_database_stores_is_refused(value: Any) -> None:
    """JSON or a database would change it or fail later."""
    with pytest.raises(InvalidArguments, match=r"args\[0\]"):
        bodies.echo.enqueue(value)


def test_arguments_that_do_not_fit_fail_the_task(backend: str) -> None:
    """Django looks at no signature before the call. It is not retried."""
    result = finished(bodies.typed.using(backend="patient").enqueue())
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is TypeError
    assert result.attempts == 1


def test_a_return_value_of_an_unfinished_task_is_an_error(configure: Configure) -> None:
    """And that of a failed one."""
    configure(backend="thread")
    result = bodies.wait.enqueue()
    with pytest.raises(ValueError, match="not finished"):
        result.return_value  # noqa: B018
    bodies.gate.set()
    finished(result)
    assert result.return_value == "waited"
    failed = finished(bodies.refuse.enqueue())
    with pytest.raises(ValueError, match="failed"):
        failed.return_value  # noqa: B018


def test_a_running_task_is_running(configure: Configure) -> None:
    configure(backend="thread")
    result = running(bodies.wait.enqueue())
    assert result.status == TaskResultStatus.RUNNING
    assert not result.is_finished
    assert result.started_at is not None
    assert result.finished_at is None
    bodies.gate.set()
    finished(result)


def test_an_error_has_its_class_and_traceback(backend: str) -> None:
    """Of a project's exception, and of a built-in one."""
    result = finished(bodies.refuse.enqueue("with: a\nValueError: colon"))
    assert result.status == TaskResultStatus.FAILED
    assert result.finished_at is not None
    (error,) = result.errors
    assert error.exception_class_path == "tests.django_tasks.bodies.Refused"
    assert error.exception_class is bodies.Refused
    assert error.traceback.startswith("Traceback (most recent call last):\n")
    assert "Refused: with: a" in error.traceback
    (error,) = finished(bodies.arefuse.enqueue()).errors
    assert error.exception_class is KeyError


@pytest.mark.parametrize("what", ["object", "set", "latin", "date", "nan"])
def test_a_return_value_without_json_fails_the_task(what: str, configure: Configure) -> None:
    """Without a retry: the body has run."""
    configure(backend="sync")
    result = bodies.return_it.using(backend="patient").enqueue(what)
    assert result.status == TaskResultStatus.FAILED
    assert result.attempts == 1
    expected = {"latin": ValueError, "nan": None}.get(what, TypeError)
    if expected is not None:
        assert result.errors[0].exception_class is expected
    assert result.errors[0].traceback


@pytest.mark.parametrize(
    ("what", "value"),
    [("bytes", "text"), ("tuple", [1, 2]), ("keys", {"1": "a", "null": "b"}), ("none", None)],
)
def test_a_return_value_goes_through_json(what: str, value: Any, configure: Configure) -> None:
    configure(backend="sync")
    assert bodies.return_it.enqueue(what).return_value == value


def test_a_context_knows_attempt_and_result(backend: str) -> None:
    """`attempt` counts from 1; the result is RUNNING; it can't be changed."""
    result = finished(bodies.describe.using(backend="patient").enqueue(fails=1))
    attempt, attempts, result_id, status, worker_ids = result.return_value
    assert (attempt, attempts, result_id, status) == (2, 2, result.id, "RUNNING")
    assert worker_ids == result.worker_ids
    context = bodies.seen[0]
    assert isinstance(context, TaskContext)
    assert context.attempt == 1
    assert context.task_result.task.func is bodies.describe.func
    assert context.task_result.kwargs == {"fails": 1}
    with pytest.raises(AttributeError):
        context.task_result = None


def test_no_retries_unless_they_are_asked_for(backend: str) -> None:
    """Django's tasks know none: by OPTIONS of the alias they have them."""
    assert finished(bodies.describe.enqueue(fails=9)).attempts == 1
    result = finished(bodies.describe.using(backend="patient").enqueue(fails=9))
    assert result.status == TaskResultStatus.FAILED
    assert result.attempts == 3
    assert [error.exception_class for error in result.errors] == [bodies.Refused]


def test_a_retrying_task_is_ready(configure: Configure) -> None:
    """ "Ready to be executed again", with the error so far."""
    configure(backend="thread")
    waits_long = task_backends["patient"].options | {"retry_delay": 60}
    task_backends["patient"].options = waits_long
    result = task(backend="patient")(bodies.refuse.func).enqueue()

    def has_failed_once() -> bool:
        result.refresh()
        return bool(result.errors)

    wait_for(has_failed_once)
    assert result.status == TaskResultStatus.READY
    assert result.attempts == 1
    result.handle.cancel()


# --- reading --------------------------------------------------------------------------------------


def test_results_are_read_by_id(backend: str) -> None:
    """By the task and by the backend, with the options that it was enqueued with."""
    at = timezone.now() - timedelta(hours=1)
    result = bodies.echo.using(priority=7, queue_name="mail", run_after=at).enqueue(1)
    for read in (bodies.echo.get_result, default_task_backend.get_result):
        again = read(result.id)
        assert again.id == result.id
        assert again.task.func is bodies.echo.func
        assert (again.task.priority, again.task.queue_name) == (7, "mail")
        assert (again.task.backend, again.task.run_after) == ("default", at)
    finished(result)


def test_a_result_of_another_task_is_a_mismatch(configure: Configure) -> None:
    configure(backend="sync")
    result = bodies.echo.enqueue()
    with pytest.raises(TaskResultMismatch):
        bodies.refuse.get_result(result.id)


def test_results_belong_to_their_alias(configure: Configure) -> None:
    """Another alias does not know them, although it is the same table."""
    configure(backend="sync")
    result = bodies.echo.using(backend="patient").enqueue()
    assert task_backends["patient"].get_result(result.id).backend == "patient"
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(result.id)
    with pytest.raises(TaskResultDoesNotExist):
        bodies.echo.get_result(result.id)
    result.refresh()


@pytest.mark.parametrize("result_id", ["", "no id", str(UUID(int=7)), "\0", "x" * 1000])
def test_an_unknown_id_does_not_exist(result_id: str) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(result_id)


def test_run_after_is_kept(configure: Configure) -> None:
    """As a time or, as the documentation says, as a timedelta."""
    configure(backend="thread")
    at = timezone.now() + timedelta(hours=1)
    later = bodies.echo.using(run_after=at).enqueue()
    assert later.status == TaskResultStatus.READY
    assert bodies.echo.get_result(later.id).task.run_after == at
    assert later.handle.refresh().snapshot.run_after == at
    relative = bodies.echo.using(run_after=timedelta(hours=1)).enqueue()
    due = bodies.echo.get_result(relative.id).task.run_after
    assert at <= due < at + timedelta(minutes=1)
    soon = finished(bodies.echo.using(run_after=timedelta(seconds=0.05)).enqueue())
    assert soon.started_at - soon.enqueued_at >= timedelta(seconds=0.05)
    for result in (later, relative):
        result.handle.cancel()


def test_a_cancelled_task_has_failed(configure: Configure) -> None:
    """It is finished, has no value, and says why."""
    configure(backend="thread")
    result = bodies.echo.using(run_after=timedelta(hours=1)).enqueue()
    result.handle.cancel()
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is TaskCancelled
    assert result.attempts == 0
    with pytest.raises(ValueError, match="failed"):
        result.return_value  # noqa: B018


def test_times_are_naive_without_use_tz(configure: Configure, settings: Any) -> None:
    """As Django's own are."""
    configure(backend="sync")
    settings.USE_TZ = False
    result = bodies.echo.enqueue()
    assert timezone.is_naive(result.enqueued_at)
    assert timezone.is_naive(result.finished_at)
    assert abs(result.enqueued_at - timezone.now()) < timedelta(minutes=1)


# --- several aliases ------------------------------------------------------------------------------


def test_queues_of_an_alias_are_served(backend: str) -> None:
    """They need no entry in our own setting, nor does a queue where QUEUES are open."""
    finished(bodies.mail.enqueue(5))
    finished(bodies.echo.using(backend="open", queue_name="any").enqueue())
    assert bodies.seen == [5]


def test_higher_priorities_run_first(configure: Configure) -> None:
    """Of what waits."""
    configure(backend="thread", max_workers=1)
    first = running(bodies.wait.enqueue())
    results = [bodies.mail.using(priority=n).enqueue(n) for n in (-5, 0, 100, 5)]
    bodies.gate.set()
    for result in (first, *results):
        finished(result)
    assert bodies.seen == [100, 5, 0, -5]
