"""Errors: what a client gets to see of them, and that they survive copying."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from rail_async_tasks import errors
from rail_async_tasks.errors import Fail, Retry, TaskError
from rail_async_tasks.ids import new_id
from rail_async_tasks.public_errors import error_for, error_type, masked
from rail_async_tasks.rest import refusals
from rail_async_tasks.snapshot import TaskSnapshot

CODES = {
    errors.TaskNotFound: "NOT_FOUND",
    errors.Unauthenticated: "UNAUTHENTICATED",
    errors.TasksDisabled: "TASKS_DISABLED",
    errors.QueueFull: "QUEUE_FULL",
    errors.RateLimited: "RATE_LIMITED",
    errors.TooComplex: "TOO_COMPLEX",
    errors.TooLarge: "TOO_LARGE",
    errors.TooMany: "TOO_MANY",
    errors.InvalidArguments: "INVALID_ARGUMENT",
    errors.UnknownQueue: "INVALID_ARGUMENT",
    errors.AlreadyFinal: "ALREADY_FINAL",
    errors.NotFinal: "NOT_FINAL",
    errors.BackendUnavailable: "BACKEND_UNAVAILABLE",
    errors.ConfigurationError: "BACKEND_UNAVAILABLE",
}


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=str)
def test_each_refusal_has_the_code_that_clients_know(kind: type[TaskError], code: str) -> None:
    """The codes are part of the API; a refusal without a message of its own still says one."""
    error = kind()

    assert (error.code, isinstance(error, TaskError)) == (code, True)
    assert error.message


def test_every_public_error_but_the_bodies_words_is_a_task_error() -> None:
    """`except TaskError` catches everything that the package raises by itself."""
    others = {name for name in errors.__all__ if not issubclass(getattr(errors, name), TaskError)}

    assert others == {"Retry", "Fail"}


def test_not_found_takes_no_message_so_that_all_read_the_same() -> None:
    """A foreign and a missing task must not differ by a text in the error."""
    with pytest.raises(TypeError):
        errors.TaskNotFound("Task 42 belongs to Ada.")  # type: ignore[call-arg]

    assert errors.TaskNotFound().message == "Task not found."


@pytest.mark.parametrize("kind", [errors.QueueFull, errors.RateLimited])
def test_what_time_heals_says_when_to_come_back(kind: type[errors.QueueFull]) -> None:
    """`retryAfter` stands beside the code, in seconds."""
    assert kind(retry_after=7).extensions == {"retryAfter": 7, "code": kind.code}


def test_a_client_does_not_see_how_the_server_is_configured() -> None:
    """The developer reads what is wrong in `str(exc)`; the public message does not repeat it."""
    error = errors.ConfigurationError('backend: "shop.secret" cannot be imported.')

    assert "shop.secret" in str(error)
    assert "shop.secret" not in error.message


def test_failed_keeps_the_error_code_of_the_row() -> None:
    """A caller that waits for a result learns why there is none."""
    error = errors.TaskFailed("took too long", error_code="timeout")

    assert (error.message, error.error_code) == ("took too long", "timeout")


@pytest.mark.parametrize(
    "error",
    [
        errors.TaskNotFound(),
        errors.QueueFull(retry_after=3),
        errors.TaskFailed("no", error_code="timeout"),
        errors.ResultError(error_code="result_too_large"),
        Retry(delay=2),
        Fail("no stock"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("again", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_errors_survive_copying_and_pickling(error: Exception, again: object) -> None:
    """Executors and test runners pass exceptions between processes."""
    twin = again(error)  # type: ignore[operator]

    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [(None, None), (0, 0.0), (1.5, 1.5), (timedelta(minutes=2), 120.0)],
)
def test_retry_takes_seconds_or_a_timedelta(
    delay: float | timedelta | None, seconds: float | None
) -> None:
    """None leaves the delay to the task's own policy."""
    assert Retry(delay=delay).delay == seconds


@pytest.mark.parametrize(
    "delay", [-1, float("nan"), float("inf"), timedelta(seconds=-1), "3", True]
)
def test_retry_refuses_a_delay_that_is_no_time(delay: float | timedelta) -> None:
    """A wrong delay fails where it is written, not in the scheduler."""
    with pytest.raises(ValueError, match="0 to 100 years"):
        Retry(delay=delay)


@pytest.mark.parametrize("name", ["InternalError", "Forbidden", "MethodNotAllowed", "CsrfFailed"])
def test_refusals_of_an_edge_declare_no_names(name: str) -> None:
    """A worker that has not imported it stores an exception of that name, a database's say; a
    process that has must not take the text for ours.
    """
    assert issubclass(getattr(refusals, name), errors.TaskError)
    accident = type(name, (Exception,), {})("the password is hunter2")
    assert error_type(accident) == name
    now = datetime.now(UTC)
    failed = TaskSnapshot(
        id=new_id(), name="t", status="failed", queue="default", created_at=now, updated_at=now,
        error=str(accident), error_code="exception", error_type=name,
    )  # fmt: skip
    assert error_for(None, failed, "all") == masked(failed.id)
