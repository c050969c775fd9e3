"""Answers over HTTP to requests that are refused before any operation."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from cross_web import HTTPException
from django.conf import settings
from django.http import JsonResponse

from rail_async_tasks.errors import TaskError, TooLarge, TooMany, Unauthenticated
from rail_async_tasks.graphql.accept import GRAPHQL_RESPONSE, JSON
from rail_async_tasks.graphql.errors import INTERNAL_ERROR
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.graphql")

# Seconds, for a client that has too many streams.
RETRY_AFTER: Final = 5


def refused(error: Exception, media_type: str | None) -> JsonResponse:
    """Returns the response to an exception that ended a request."""
    if isinstance(error, HTTPException):
        response = _answer(media_type, error.status_code, error.reason)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            response["Allow"] = "GET, POST"
        return response
    if isinstance(error, Unauthenticated):
        response = _answer(media_type, 401, error.message, code=error.code)
        response["WWW-Authenticate"] = "Bearer"
        return response
    if isinstance(error, TooMany):
        response = _answer(media_type, 429, error.message, code=error.code)
        response["Retry-After"] = str(RETRY_AFTER)
        return response
    if isinstance(error, TooLarge):
        return _answer(media_type, 413, error.message, code=error.code)
    if isinstance(error, TaskError):
        logger.error("GraphQL cannot be served.", exc_info=error)
        message = str(error) if settings.DEBUG else error.message
        return _answer(media_type, 503, message, code=error.code)
    # An authenticator, a user manager, a router of the project.
    logger.error("A GraphQL request failed.", exc_info=error)
    message = f"{error!r:.1000}" if settings.DEBUG else "Internal server error."
    return _answer(media_type, 500, message, code=INTERNAL_ERROR)


def refused_handshake(reason: str, media_type: str | None) -> JsonResponse:
    """Returns the response to a WebSocket's handshake where there are no WebSockets."""
    # A browser does not show the body of a handshake's answer.
    logger.warning("WebSocket refused: %s", reason)
    return _answer(media_type, 501, reason)


def _answer(media_type: str | None, status: int, message: str, **extensions: str) -> JsonResponse:
    error: dict[str, Any] = {"message": message}
    if extensions:
        error["extensions"] = extensions
    kind = GRAPHQL_RESPONSE if media_type == GRAPHQL_RESPONSE else JSON
    return JsonResponse({"errors": [error]}, status=status, content_type=kind)
