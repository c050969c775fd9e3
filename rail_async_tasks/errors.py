"""The package's exceptions, and the two that a task raises on purpose.

`TaskError` and its subclasses are refusals: each has a `code` that GraphQL and REST pass on, a
public `message` and `extensions` beside the code. They are safe to show to clients.

`Retry` and `Fail` are not errors of the package: a task's body raises them for the runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar, TypeGuard

__all__ = [
    "AlreadyFinal",
    "BackendUnavailable",
    "ConfigurationError",
    "Fail",
    "InvalidArguments",
    "NotFinal",
    "QueueFull",
    "RateLimited",
    "ResultError",
    "Retry",
    "TablesMissing",
    "TaskCancelled",
    "TaskDeclarationError",
    "TaskError",
    "TaskFailed",
    "TaskNotFound",
    "TasksDisabled",
    "TooComplex",
    "TooLarge",
    "TooMany",
    "Unauthenticated",
    "UnknownQueue",
    "WouldWaitForever",
]

# A hundred years of seconds: a later time is a mistake, and no database's to keep.
MAX_DELAY = 100 * 365 * 86400.0


class TaskError(Exception):
    """Base of every error of the package.

    `code` is GraphQL's `extensions.code` and REST's `error.code`; `extensions` holds it
    and the keys beside it, in camel case, JSON values only. graphql-core copies a dict of that name
    into the error of a resolver, so any GraphQL schema passes the code on.
    """

    code: ClassVar[str] = "TASK_ERROR"
    default_message: ClassVar[str] = "The task could not be processed."

    def __init__(
        self, message: str | None = None, *, extensions: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(self.default_message if message is None else message)
        self.extensions: dict[str, Any] = {**(extensions or {}), "code": self.code}

    @property
    def message(self) -> str:
        """The public message: `str(exc)`, unless a subclass overrides it."""
        return str(self)


class TaskNotFound(TaskError):
    """No such task for this caller.

    Clients must not tell a foreign, missing, expired and malformed id apart: it takes no message.
    """

    code = "NOT_FOUND"
    default_message = "Task not found."

    def __init__(self) -> None:
        super().__init__()

    def __reduce__(self) -> tuple[type[TaskNotFound], tuple[()]]:
        return type(self), ()  # copying and pickling would pass the message otherwise


class Unauthenticated(TaskError):
    """A bad credential; or none, where `anonymous_access` is `"deny"`."""

    code = "UNAUTHENTICATED"
    default_message = "Authentication is required."


class TasksDisabled(TaskError):
    """`task_settings["enabled"]` is off."""

    code = "TASKS_DISABLED"
    default_message = "Tasks are disabled."


class _RefusedForNow(TaskError):
    """A refusal that time heals; `retry_after` (seconds) goes out as `retryAfter`."""

    def __init__(self, message: str | None = None, *, retry_after: float = 1) -> None:
        super().__init__(message, extensions={"retryAfter": retry_after})
        self.retry_after = retry_after


class QueueFull(_RefusedForNow):
    """`max_pending` or `max_pending_per_owner` is reached; no row was written."""

    code = "QUEUE_FULL"
    default_message = "Too many tasks are waiting. Try again later."


class RateLimited(_RefusedForNow):
    """The owner started more tasks than `rate_limit` allows; no row was written."""

    code = "RATE_LIMITED"
    default_message = "Too many tasks were started. Try again later."


class TooMany(TaskError):
    """More at once than one of `task_settings["limits"]` allows; the message names the limit."""

    code = "TOO_MANY"
    default_message = "A limit per client is reached."


class TooComplex(TaskError):
    """A document is over one of `task_settings["limits"]`; the message names the limit."""

    code = "TOO_COMPLEX"
    default_message = "The document is too complex."


class TooLarge(TaskError):
    """More bytes than one of `task_settings["limits"]` allows; the message names the limit."""

    code = "TOO_LARGE"
    default_message = "The request or its answer has too many bytes."


class InvalidArguments(TaskError):
    """The arguments do not fit the task's signature; the message names the argument."""

    code = "INVALID_ARGUMENT"
    default_message = "The arguments are invalid."


class UnknownQueue(TaskError):
    """`.using(queue=...)` named a queue that neither settings nor a declaration has."""

    code = "INVALID_ARGUMENT"
    default_message = "The queue is unknown."


class AlreadyFinal(TaskError):
    """A finished task (a cancelled one too) cannot be cancelled."""

    code = "ALREADY_FINAL"
    default_message = "The task has already finished."


class NotFinal(TaskError):
    """An unfinished task cannot be retried."""

    code = "NOT_FINAL"
    default_message = "The task has not finished yet."


class BackendUnavailable(TaskError):
    """The backend (or what it stands on: broker, database, loop) does not answer."""

    code = "BACKEND_UNAVAILABLE"
    default_message = "The task backend is unavailable."


class TablesMissing(BackendUnavailable):
    """The database lacks a table or a column: `manage.py migrate` has not run since an upgrade.

    `str(exc)` names the database and the table; `message`, which the edges show, does not.
    """

    @property
    def message(self) -> str:
        return "The database lacks tables of rail_async_tasks: run `manage.py migrate`."


class ConfigurationError(TaskError):
    """A wrong setting was used; the message lists every mistake.

    Raised by use only, never by importing settings, URLs, schema or tasks. `str(exc)` is for the
    developer (logs, the shell); `message`, which the edges show, hides the set-up from clients.
    """

    code = "BACKEND_UNAVAILABLE"
    default_message = "The task settings are wrong."

    @property
    def message(self) -> str:
        return "The task backend is not configured correctly."


class TaskDeclarationError(TaskError):
    """A wrong `@task` or `@task_mutation`; raised while its module is imported."""

    code = "TASK_ERROR"
    default_message = "The task is declared wrongly."


class ResultError(TaskError):
    """A body's result cannot be stored; the task fails without a retry, as its body has run.

    `error_code` is the row's: `result_not_serializable` or `result_too_large`.
    """

    code = "TASK_ERROR"
    default_message = "The result has no JSON form."

    def __init__(
        self, message: str | None = None, *, error_code: str = "result_not_serializable"
    ) -> None:
        super().__init__(message)
        self.error_code = error_code


class TaskFailed(TaskError):
    """The task ended `failed`; raised where its result was asked for.

    `error_code` is the row's (for example `exception` or `timeout`), the message its `error`. The
    edges show that only where it was written for users: `declared`.
    """

    code = "TASK_FAILED"
    default_message = "The task failed."

    def __init__(
        self, message: str | None = None, *, error_code: str = "exception", declared: bool = False
    ) -> None:
        super().__init__(message, extensions={"errorCode": error_code})
        self.error_code = error_code
        self.declared = declared


class TaskCancelled(TaskError):
    """The task ended `cancelled`; raised where its result was asked for, and by
    `raise_if_cancelled()` inside a body."""

    code = "TASK_CANCELLED"
    default_message = "The task was cancelled."


class WouldWaitForever(TaskError, RuntimeError):
    """`result()` was called where the task can't start before the call returns."""

    code = "TASK_ERROR"
    default_message = "The task cannot start while its result is waited for."


def is_delay(seconds: object) -> TypeGuard[float]:
    """Returns whether the value is a delay in seconds: a number from 0 to `MAX_DELAY`."""
    # The comparison is false for NaN too; a bool is a mistake, not a number.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return False
    return 0 <= seconds <= MAX_DELAY


class Retry(Exception):
    """Raised by a body: this attempt did not work out, try again.

    `delay` is seconds (or a `timedelta`) until the next attempt; `None` leaves it to the task's
    own retry delay and backoff. It counts against `max_retries`. Raises `ValueError` for a delay
    that is no number, negative, not finite or more than 100 years.
    """

    def __init__(self, delay: float | timedelta | None = None) -> None:
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        if seconds is not None and not is_delay(seconds):
            raise ValueError(f"Retry(delay=...) takes seconds, 0 to 100 years, not {delay!r}.")
        super().__init__(seconds)
        self.delay: float | None = None if seconds is None else float(seconds)

    def __str__(self) -> str:
        return "The task asked for a retry."


class Fail(Exception):
    """Raised by a body: this task has failed for good, retries or not.

    The message becomes the task's `error`, so it must be fit for every user who may see the task.
    """

    def __init__(self, message: str = "The task failed.") -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        return str(self)
