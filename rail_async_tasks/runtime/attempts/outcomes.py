"""Decides what an attempt's end means for its execution. Pure."""

from __future__ import annotations

from enum import Enum, auto
from uuid import UUID

import msgspec
from django.core.exceptions import SynchronousOnlyOperation

from rail_async_tasks.codec import encode_result
from rail_async_tasks.errors import Fail, InvalidArguments, ResultError, Retry, TaskCancelled
from rail_async_tasks.hooks import asks_to_end
from rail_async_tasks.ledger.records import Outcome
from rail_async_tasks.public_errors import error_type
from rail_async_tasks.retry import RetryPolicy
from rail_async_tasks.rollups.error_places import place_of
from rail_async_tasks.runtime.attempts.calling import NotCalled
from rail_async_tasks.states import ErrorCode, Status
from rail_async_tasks.text import (
    MAX_ERROR_BYTES,
    clean,
    counted,
    describe,
    format_traceback,
)

# What to do about the ORM's refusal to block an event loop.
ORM_ON_LOOP = (
    "An `async def` task runs on the event loop: use the ORM's async methods, such as"
    " `await x.aget()` and `async for`, or make the task a `def`, which runs in a thread."
)


class Interruption(Enum):
    """The reason why an attempt was asked to end before its body had."""

    CANCEL = auto()
    TIMEOUT = auto()
    HAND_BACK = auto()  # the process shuts down, or its lease is lost


class AttemptPolicy(msgspec.Struct, frozen=True):
    """The rules by which an attempt ends. `timeout`, `ttl` and `callback_hold` are seconds."""

    retry: RetryPolicy
    retry_count: int
    max_retries: int
    rerun_on_crash: bool
    timeout: float | None
    ttl: float | None
    max_result_bytes: int
    callback_hold: float | None = None


class Transition(msgspec.Struct, frozen=True):
    """The next state of the execution: `Outcome` without the row's identity and progress.

    `cause` is the exception itself, for the log.
    """

    status: Status
    result: str | None = None
    error: str | None = None
    error_code: ErrorCode | None = None
    error_type: str | None = None
    traceback: str | None = None
    retried: int = 0
    delay: float | None = None
    cause: BaseException | None = None


def returned(value: object, policy: AttemptPolicy) -> Transition:
    """The body returned: completed, unless the value can't be stored. Never retried: it has run.

    Also where it had been asked to end, by a cancel or by its timeout: another attempt would do
    the same work again.
    """
    try:
        encoded = encode_result(value)
    except ResultError as error:
        return Transition(
            Status.FAILED,
            error=describe(error),
            error_code=ErrorCode.RESULT_NOT_SERIALIZABLE,
            error_type=error_type(error),
        )
    except BaseException as error:  # the value's own code: a property, an iterator, a lazy text
        if asks_to_end(error):
            raise
        return Transition(
            Status.FAILED,
            error=clean(
                f"The result can't be read: {type(error).__name__}: {describe(error)}",
                MAX_ERROR_BYTES,
            ),
            error_code=ErrorCode.RESULT_NOT_SERIALIZABLE,
            error_type=error_type(error),
            traceback=format_traceback(error),
            cause=error,
        )
    if len(encoded) > policy.max_result_bytes:
        return Transition(
            Status.FAILED,
            error=(
                f"The result is {counted(len(encoded), 'byte')} of JSON, over the limit of"
                f" {policy.max_result_bytes} (max_result_bytes)."
            ),
            error_code=ErrorCode.RESULT_TOO_LARGE,
            error_type=ResultError.__name__,
        )
    return Transition(Status.COMPLETED, result=encoded.decode())


def raised(error: BaseException, policy: AttemptPolicy) -> Transition:
    """The body raised, and had not been asked to end."""
    try:
        return _raised(error, policy)
    except BaseException as broken:  # the error's own code: its metaclass, its `__class__`
        if asks_to_end(broken):
            raise
        return refused(broken)


def _raised(error: BaseException, policy: AttemptPolicy) -> Transition:
    misfit = False
    if isinstance(error, NotCalled):
        error = error.error
        if isinstance(error, InvalidArguments):
            # Its traceback is the codec's own.
            return Transition(
                Status.FAILED, error=describe(error), error_code=ErrorCode.INVALID_ARGS,
                error_type=error_type(error),
            )  # fmt: skip
        misfit = True
    failed = _failure(error)
    if isinstance(error, InvalidArguments):  # of another task, which the body has started
        return msgspec.structs.replace(failed, error_code=ErrorCode.INVALID_ARGS)
    if isinstance(error, Fail):
        return failed
    if isinstance(error, Retry):
        if policy.retry_count < policy.max_retries:
            wait = policy.retry.wait(policy.retry_count + 1) if error.delay is None else error.delay
            return _retried(failed, wait)
        return failed
    return _retry_or_fail(failed, error, policy, misfit=misfit)


def timed_out(policy: AttemptPolicy, ended_by: BaseException | None = None) -> Transition:
    """The attempt took longer than its timeout.

    `ended_by` is what the body raised then; its traceback shows where the body was.
    """
    text = f"The attempt took longer than its timeout of {policy.timeout:g} s."
    error = TimeoutError(text)
    failed = Transition(
        Status.FAILED, error=text, error_code=ErrorCode.TIMEOUT, error_type=error_type(error)
    )
    if ended_by is not None:
        error.__cause__ = ended_by
        failed = msgspec.structs.replace(failed, traceback=format_traceback(error), cause=error)
    return _retry_or_fail(failed, error, policy)


def handed_back(policy: AttemptPolicy) -> Transition:
    """Returns the end of an attempt that was handed back: it runs again, at no cost of a retry.

    Its process shuts down, or has lost its lease.
    """
    if policy.rerun_on_crash:
        return Transition(Status.RETRYING)
    return Transition(
        Status.FAILED,
        error="The process that ran it shut down or lost its lease. The task may not run twice.",
        error_code=ErrorCode.WORKER_LOST,
    )


def lost(
    execution_id: UUID, token: UUID, *, rerun_on_crash: bool, ttl: float | None,
    callback_hold: float | None,
) -> Outcome:  # fmt: skip
    """Returns the outcome of an attempt that its own process does not know any more."""
    if rerun_on_crash:
        return Outcome(id=execution_id, token=token, status=Status.RETRYING, progress=0)
    return Outcome(
        id=execution_id, token=token, status=Status.FAILED, progress=0,
        error="The process that ran it has lost sight of it, and the task may not run twice.",
        error_code=ErrorCode.WORKER_LOST, ttl=ttl, callback_hold=callback_hold,
    )  # fmt: skip


def interrupted(
    why: Interruption, policy: AttemptPolicy, ended_by: BaseException | None = None
) -> Transition:
    """The body ended because it was asked to, or did not and was given up.

    `ended_by` is what it raised, if it did.
    """
    if why is Interruption.TIMEOUT:
        return timed_out(policy, ended_by)
    if why is Interruption.HAND_BACK:
        return handed_back(policy)
    return Transition(Status.CANCELLED, error_code=ErrorCode.CANCELLED)


def stopped(
    error: BaseException, why: Interruption | None, loop_ends: bool, policy: AttemptPolicy
) -> Transition:
    """The body raised `CancelledError` or `TaskCancelled`; `why` is None if nothing asked it to."""
    if why is not None:
        return interrupted(why, policy, error)
    if isinstance(error, TaskCancelled):
        return raised(error, policy)
    if loop_ends:  # the end of `asyncio.run`
        return handed_back(policy)
    return raised(
        RuntimeError("The body raised CancelledError, but the task had not been cancelled."), policy
    )


def _failure(error: BaseException) -> Transition:
    text = describe(error)
    if isinstance(error, SynchronousOnlyOperation):
        text = clean(f"{text} {ORM_ON_LOOP}", MAX_ERROR_BYTES)
        if ORM_ON_LOOP not in getattr(error, "__notes__", ()):
            error.add_note(ORM_ON_LOOP)  # the traceback ends in it, in the row and in the log
    return Transition(
        Status.FAILED, error=text, error_code=ErrorCode.EXCEPTION, error_type=error_type(error),
        traceback=format_traceback(error), cause=error,
    )  # fmt: skip


def _retry_or_fail(
    failed: Transition, error: BaseException, policy: AttemptPolicy, *, misfit: bool = False
) -> Transition:
    if policy.retry.allows(error, policy.retry_count, policy.max_retries, misfit=misfit):
        return _retried(failed, policy.retry.wait(policy.retry_count + 1))
    return failed


def _retried(failed: Transition, delay: float) -> Transition:
    return msgspec.structs.replace(failed, status=Status.RETRYING, retried=1, delay=delay)


def as_outcome(
    transition: Transition,
    *,
    id: UUID,
    token: UUID,
    progress: int,
    progress_message: str | None,
    policy: AttemptPolicy,
) -> Outcome:
    """Returns the transition as the ledger takes it."""
    return Outcome(
        id=id,
        token=token,
        status=transition.status,
        progress=progress,
        progress_message=progress_message,
        result=transition.result,
        error=transition.error,
        error_code=transition.error_code,
        error_type=transition.error_type,
        error_place=place_of(transition.traceback),
        traceback=transition.traceback,
        retried=transition.retried,
        delay=transition.delay,
        ttl=policy.ttl,
        callback_hold=policy.callback_hold,
    )


def refused(error: BaseException) -> Transition:
    """The outcome itself was refused, by the database or by something broken. The body has run."""
    return Transition(
        Status.FAILED,
        error=f"The outcome can't be stored: {type(error).__name__}.",
        error_code=ErrorCode.RESULT_NOT_SERIALIZABLE,
        error_type=error_type(error),
        cause=error,
    )
