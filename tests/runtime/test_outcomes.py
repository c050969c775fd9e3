"""What an attempt's end means for its execution, as tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from django.core.exceptions import SynchronousOnlyOperation

from rail_async_tasks.errors import Fail, InvalidArguments, Retry
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.records import Outcome
from rail_async_tasks.retry import RetryPolicy
from rail_async_tasks.runtime.attempts import outcomes
from rail_async_tasks.runtime.attempts.calling import NotCalled
from rail_async_tasks.runtime.attempts.outcomes import AttemptPolicy, Interruption, Transition
from rail_async_tasks.states import ErrorCode, Status
from tests.support import rude


def policy(
    *, retry_on: tuple[type[BaseException], ...] = (Exception,), **fields: Any
) -> AttemptPolicy:
    retry = RetryPolicy(
        max_retries=3, delay=1.0, backoff=True, max_delay=60.0, jitter=0.0, retry_on=retry_on
    )
    values: dict[str, Any] = {
        "retry": retry, "retry_count": 0, "max_retries": 3, "rerun_on_crash": True,
        "timeout": 1.5, "ttl": 60.0, "max_result_bytes": 100,
    }  # fmt: skip
    return AttemptPolicy(**(values | fields))


def thrown(error: BaseException) -> BaseException:
    with pytest.raises(type(error)) as raised:
        raise error
    return raised.value


# --- returned -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "result"),
    [(None, "null"), ({"ok": True, "n": [1, 2.5]}, '{"ok":true,"n":[1,2.5]}'), ("é", '"é"')],
)
def test_a_value_completes(value: object, result: str) -> None:
    """Kept as JSON."""
    assert outcomes.returned(value, policy()) == Transition(Status.COMPLETED, result=result)


@pytest.mark.parametrize("value", [object(), float("nan"), "\0", "\ud800", {1, object()}])
def test_a_value_without_a_json_form_fails_for_good(value: object) -> None:
    """Retries are left, but the body has run."""
    it = outcomes.returned(value, policy())
    assert (it.status, it.error_code) == (Status.FAILED, ErrorCode.RESULT_NOT_SERIALIZABLE)
    assert it.error
    assert it.retried == 0


@pytest.mark.parametrize(("length", "status"), [(98, Status.COMPLETED), (99, Status.FAILED)])
def test_the_limit_of_a_result_is_in_bytes_of_json(length: int, status: Status) -> None:
    """Exactly at the limit it fits; past it the error says both numbers."""
    it = outcomes.returned("x" * length, policy())
    assert it.status is status
    if status is Status.FAILED:
        assert it.error_code is ErrorCode.RESULT_TOO_LARGE
        assert it.error is not None
        assert "101 bytes" in it.error
        assert "100" in it.error


@pytest.mark.parametrize("error", rude.ERRORS)
@pytest.mark.parametrize("make", rude.RESULTS.values(), ids=rude.RESULTS)
def test_a_value_whose_own_code_raises_fails_for_good(
    make: Callable[[type[BaseException]], Any], error: type[BaseException]
) -> None:
    """Whatever that is; the text names it."""
    it = outcomes.returned(make(error), policy())
    assert (it.status, it.error_code) == (Status.FAILED, ErrorCode.RESULT_NOT_SERIALIZABLE)
    assert it.error is not None
    assert it.error.startswith("The result can't be read: ")
    assert error.__name__ in it.error


@pytest.mark.parametrize("error", rude.ERRORS)
@pytest.mark.parametrize("make", rude.EXCEPTIONS.values(), ids=rude.EXCEPTIONS)
def test_an_error_whose_own_code_raises_is_an_outcome(
    make: Callable[[type[BaseException]], BaseException], error: type[BaseException]
) -> None:
    """Failed at once, or retried; with some text."""
    thrown = make(error)
    for it in (
        outcomes.raised(thrown, policy()),
        outcomes.timed_out(policy(), thrown),
        outcomes.interrupted(Interruption.TIMEOUT, policy(), thrown),
    ):
        assert it.status in (Status.FAILED, Status.RETRYING)
        assert it.error


def test_a_ctrl_c_while_a_value_or_an_error_is_read_passes() -> None:
    """In the main thread, where a person sends it."""
    with pytest.raises(KeyboardInterrupt):
        outcomes.returned(rude.mapping(KeyboardInterrupt), policy())
    with pytest.raises(KeyboardInterrupt):
        outcomes.raised(rude.text(KeyboardInterrupt), policy())


# --- raised ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "fields", "status", "delay"),
    [
        (ValueError("no"), {}, Status.RETRYING, 1.0),
        (ValueError("no"), {"retry_count": 2}, Status.RETRYING, 4.0),
        (ValueError("no"), {"retry_count": 3}, Status.FAILED, None),
        (ValueError("no"), {"max_retries": 0}, Status.FAILED, None),
        (ValueError("no"), {"retry_on": (KeyError,)}, Status.FAILED, None),
        (KeyError("no"), {"retry_on": (KeyError,)}, Status.RETRYING, 1.0),
        (TimeoutError("no"), {}, Status.RETRYING, 1.0),
        (SystemExit("no"), {}, Status.FAILED, None),
        (Fail("no"), {}, Status.FAILED, None),
        (Retry(), {}, Status.RETRYING, 1.0),
        (Retry(), {"retry_count": 1}, Status.RETRYING, 2.0),
        (Retry(7.5), {"retry_count": 1}, Status.RETRYING, 7.5),
        (Retry(0), {}, Status.RETRYING, 0.0),
        (Retry(7.5), {"retry_count": 3}, Status.FAILED, None),
        (Retry(), {"retry_on": (KeyError,)}, Status.RETRYING, 1.0),
    ],
)
def test_what_was_raised(
    error: BaseException, fields: dict[str, Any], status: Status, delay: float | None
) -> None:
    """A retry while some are left and the error is of a kind that gets one; else the end."""
    it = outcomes.raised(thrown(error), policy(**fields))
    assert (it.status, it.delay) == (status, delay)
    assert it.retried == (1 if status is Status.RETRYING else 0)
    assert it.error_code is ErrorCode.EXCEPTION
    assert it.error == ("'no'" if type(error) is KeyError else str(error))
    assert it.traceback is not None
    assert type(error).__name__ in it.traceback
    assert it.result is None


def test_arguments_that_do_not_fit_fail_for_good() -> None:
    """They will not fit better next time; no traceback of ours is kept."""
    it = outcomes.raised(NotCalled(InvalidArguments("n: not a number")), policy())
    assert it == Transition(
        Status.FAILED, error="n: not a number", error_code=ErrorCode.INVALID_ARGS,
        error_type="InvalidArguments",
    )  # fmt: skip


def test_arguments_of_another_task_that_do_not_fit_fail_with_a_traceback() -> None:
    """The body has started a task wrongly: its traceback shows where."""
    error = thrown(InvalidArguments("n: not a number"))
    it = outcomes.raised(error, policy())
    assert (it.status, it.error_code, it.cause) == (Status.FAILED, ErrorCode.INVALID_ARGS, error)
    assert it.traceback is not None
    assert "in thrown" in it.traceback


PROGRAM_ERRORS = [
    NameError("no"), UnboundLocalError("no"), ImportError("no"), ModuleNotFoundError("no"),
    SyntaxError("no"), IndentationError("no"), NotImplementedError("no"),
    SynchronousOnlyOperation("no"), NotCalled(TypeError("no")),
    ExceptionGroup("no", [NameError("no"), ExceptionGroup("no", [ImportError("no")])]),
]  # fmt: skip


@pytest.mark.parametrize("error", PROGRAM_ERRORS, ids=repr)
def test_an_error_of_the_program_is_not_retried(error: Exception) -> None:
    """Nor where `retry_on` has a class above it: that names errors in general."""
    for retry_on in ((Exception,), (Exception, RuntimeError, ValueError)):
        it = outcomes.raised(thrown(error), policy(retry_on=retry_on))
        assert (it.status, it.error_code) == (Status.FAILED, ErrorCode.EXCEPTION)


@pytest.mark.parametrize(
    ("error", "retry_on"),
    [
        (NameError("no"), NameError),
        (ModuleNotFoundError("no"), ImportError),
        (NotImplementedError("no"), NotImplementedError),
        (SynchronousOnlyOperation("no"), SynchronousOnlyOperation),
        (NotCalled(TypeError("no")), TypeError),
        (TypeError("no"), Exception),
        (ExceptionGroup("no", [NameError("no"), ValueError("no")]), Exception),
    ],
    ids=repr,
)
def test_an_error_of_the_program_is_retried_where_it_is_named(
    error: Exception, retry_on: type[Exception]
) -> None:
    """By its class, or by one above it that is itself an error of the program."""
    it = outcomes.raised(thrown(error), policy(retry_on=(KeyError, retry_on)))
    assert it.status is Status.RETRYING


def test_the_orm_on_an_event_loop_says_what_to_do() -> None:
    """In the error, and once in the traceback, however often the same error is raised."""
    error = SynchronousOnlyOperation("You cannot call this from an async context.")
    for _ in range(2):
        it = outcomes.raised(thrown(error), policy())
        assert it.error is not None
        assert it.error.startswith("You cannot call this from an async context. An `async def`")
        assert "await x.aget()" in it.error
        assert it.traceback is not None
        assert it.traceback.count("make the task a `def`") == 1


@pytest.mark.parametrize(
    ("error", "name"),
    [(KeyError("no"), "KeyError"), (Fail("no"), "Fail"), (NotCalled(TypeError("no")), "TypeError"),
     (type("é" * 200, (Exception,), {})(), "é" * 126 + "…")],
)  # fmt: skip
def test_the_type_of_an_error_is_its_class_name(error: Exception, name: str) -> None:
    """Cut to the width of its column, in bytes."""
    it = outcomes.raised(thrown(error), policy())
    assert it.error_type == name
    assert it.error_type is not None
    assert len(it.error_type.encode()) <= 255


# --- interrupted ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "delay"),
    [
        ({}, Status.RETRYING, 1.0),
        ({"retry_count": 3}, Status.FAILED, None),
        ({"retry_on": (TimeoutError,)}, Status.RETRYING, 1.0),
        ({"retry_on": (ValueError,)}, Status.FAILED, None),
    ],
)
def test_a_timeout(fields: dict[str, Any], status: Status, delay: float | None) -> None:
    """Retried like any error, as a TimeoutError; says how long it was."""
    it = outcomes.interrupted(Interruption.TIMEOUT, policy(**fields))
    assert (it.status, it.delay, it.error_code) == (status, delay, ErrorCode.TIMEOUT)
    assert it.error is not None
    assert "1.5 s" in it.error
    assert (it.error_type, it.traceback, it.cause) == ("TimeoutError", None, None)


def test_a_timeout_shows_where_the_body_was() -> None:
    """By the traceback of what the body ended with."""
    it = outcomes.interrupted(Interruption.TIMEOUT, policy(), thrown(asyncio.CancelledError()))
    assert it.traceback is not None
    assert "in thrown" in it.traceback
    assert it.traceback.rstrip().endswith("timeout of 1.5 s.")
    assert isinstance(it.cause, TimeoutError)


def test_a_hand_back_costs_no_retry() -> None:
    """Another process runs it, at once, even after the last retry."""
    it = outcomes.interrupted(Interruption.HAND_BACK, policy(retry_count=3))
    assert it == Transition(Status.RETRYING)
    assert it.retried == 0


def test_a_hand_back_of_what_may_not_run_twice_fails_it() -> None:
    """As lost with its worker."""
    it = outcomes.interrupted(Interruption.HAND_BACK, policy(rerun_on_crash=False))
    assert (it.status, it.error_code) == (Status.FAILED, ErrorCode.WORKER_LOST)
    assert it.error


def test_a_cancel() -> None:
    """Cancelled, with its code and no error text."""
    it = outcomes.interrupted(Interruption.CANCEL, policy())
    assert it == Transition(Status.CANCELLED, error_code=ErrorCode.CANCELLED)


# --- outcome --------------------------------------------------------------------------------------


def test_an_outcome_is_the_transition_with_the_rows_identity() -> None:
    """Every field of it arrives."""
    it = Transition(Status.RETRYING, "r", "e", ErrorCode.TIMEOUT, "T", "t", 1, 2.5)
    where = {"id": new_id(), "token": new_id(), "progress": 5, "progress_message": "m"}
    agreed = policy(ttl=9.0, callback_hold=60.0)
    assert outcomes.as_outcome(it, **where, policy=agreed) == Outcome(  # type: ignore[arg-type]
        **{name: value for name, value in msgspec.structs.asdict(it).items() if name != "cause"},
        **where, ttl=9.0, callback_hold=60.0,
    )  # fmt: skip


def test_a_refused_outcome_is_one_that_can_be_stored() -> None:
    """It names the error's type only: the text may be what the database could not take."""
    it = outcomes.refused(ValueError("\0"))
    assert (it.status, it.error_code) == (Status.FAILED, ErrorCode.RESULT_NOT_SERIALIZABLE)
    assert it.error == "The outcome can't be stored: ValueError."
