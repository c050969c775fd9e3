"""Error responses of REST: one table from codes to statuses, one format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from graphql import GraphQLError

from rail_async_tasks.errors import (
    BackendUnavailable,
    ConfigurationError,
    InvalidArguments,
    TaskError,
    Unauthenticated,
)
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.rest")


class Forbidden(TaskError):
    """A permission class of the task refuses this caller."""

    code = "FORBIDDEN"
    default_message = "You may not start this task."


class CsrfFailed(TaskError):
    """A session's POST has no valid CSRF token."""

    code = "CSRF_FAILED"
    default_message = "The CSRF check failed."


class MethodNotAllowed(TaskError):
    """The URL has no such method; `allowed` are its methods."""

    code = "METHOD_NOT_ALLOWED"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(f"Use {' or '.join(allowed)} here.")
        self.allowed = allowed


class InternalError(TaskError):
    """An unexpected error; only the log has its details."""

    code = "INTERNAL_ERROR"
    default_message = "Internal server error."


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a code. `retry_after` (seconds) is for errors without their own."""

    status: int
    when: str
    retry_after: int | None = None


# The one table of codes. A refusal with another code is answered as an unexpected error.
ANSWERS: Final[dict[str, Answer]] = {
    "INVALID_ARGUMENT": Answer(400, "A parameter or the body is wrong; the message names it."),
    "UNAUTHENTICATED": Answer(401, "The credential is bad, or is missing where one is needed."),
    "CSRF_FAILED": Answer(403, "A POST by session came without a valid CSRF token."),
    "FORBIDDEN": Answer(403, "A permission class of the task refuses the caller."),
    "NOT_FOUND": Answer(404, "There is no such task for this caller."),
    "METHOD_NOT_ALLOWED": Answer(405, "The URL does not take this method; see `Allow`."),
    "ALREADY_FINAL": Answer(409, "The task has ended, so it cannot be cancelled."),
    "NOT_FINAL": Answer(409, "The task has not ended, so it cannot be run again."),
    "QUEUE_FULL": Answer(429, "Too many tasks are waiting; nothing was stored.", 1),
    "RATE_LIMITED": Answer(429, "The owner starts too many tasks; nothing was stored.", 1),
    "TOO_MANY": Answer(429, "The caller has too many streams open.", 5),
    "TOO_LARGE": Answer(400, "The request or the answer has too many bytes."),
    "INTERNAL_ERROR": Answer(500, "An unexpected error; the server's log has the details."),
    "TASKS_DISABLED": Answer(503, "Tasks are switched off.", 60),
    "BACKEND_UNAVAILABLE": Answer(503, "The database or the task backend does not answer.", 5),
}


def refused(error: Exception) -> HttpResponse:
    """Returns the response to an exception that ended a request."""
    refusal = _refusal(error)
    answer = ANSWERS[refusal.code]
    response = json_response(
        msgspec.json.encode({"error": {"code": refusal.code, "message": refusal.message}}),
        answer.status,
    )
    if isinstance(refusal, Unauthenticated):
        response["WWW-Authenticate"] = "Bearer"
    if isinstance(refusal, MethodNotAllowed):
        response["Allow"] = ", ".join(refusal.allowed)
    if answer.retry_after is not None:
        seconds = getattr(refusal, "retry_after", answer.retry_after)
        response["Retry-After"] = str(max(math.ceil(seconds), 1))
    return response


def json_response(body: bytes, status: int = 200) -> HttpResponse:
    """Returns a JSON response."""
    response = HttpResponse(body, content_type="application/json", status=status)
    # A result may hold anything, HTML too.
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _refusal(error: Exception) -> TaskError:
    """Returns the public part of an exception."""
    if isinstance(error, TaskError) and error.code in ANSWERS:
        if isinstance(error, ConfigurationError):
            logger.error("%s", error)
        return error
    if isinstance(error, PermissionDenied | GraphQLError):  # by a permission class
        return Forbidden(error.message if isinstance(error, GraphQLError) else None)
    if isinstance(error, SuspiciousOperation | UnreadablePostError | MultiPartParserError):
        return InvalidArguments("The request is malformed or too large.")
    if isinstance(error, OperationalError | InterfaceError):
        logger.error("The database does not answer a request: %s", error)
        return BackendUnavailable()
    logger.error("A request failed.", exc_info=error)
    return InternalError()
