"""Errors for GraphQL clients; details of accidents go to the log alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from graphql import GraphQLError
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionContext, ExecutionResult

from rail_async_tasks.errors import ConfigurationError, TaskError
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.graphql")
# Where Strawberry logs what a resolver raises: projects look for it there.
execution_logger = get_logger("strawberry.execution")

INTERNAL_ERROR = "INTERNAL_ERROR"
WHICH_OPERATION = (
    "The document must have one operation, or operationName must name one of its operations."
)

# Mistakes of the client that Strawberry reports as exceptions.
_CLIENT_MISTAKES = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)


def graphql_error(error: TaskError) -> GraphQLError:
    """Returns a refusal as a GraphQL error: public message, code in the extensions."""
    return GraphQLError(error.message, extensions=dict(error.extensions), original_error=error)


@contextmanager
def refusals_with_codes() -> Iterator[None]:
    """Turns a refusal into a `GraphQLError` with its code and its public message.

    Each resolver of ours uses it, so that codes come with the fields whichever schema class, view
    or consumer serves them. `process()` does the same for the project's resolvers.
    """
    try:
        yield
    except TaskError as error:
        raise graphql_error(error) from error


def process(error: GraphQLError, context: ExecutionContext | None) -> None:
    """Makes one error of a result fit for the client, in place; logs it if it is ours.

    Refusals (`TaskError`) and bad queries are not logged. Any other exception is logged, and the
    client gets its text with `DEBUG` only.
    """
    refusal = _refusal_in(error)
    if refusal is not None:
        error.message = refusal.message
        error.extensions = dict(refusal.extensions)
        if isinstance(refusal, ConfigurationError):
            logger.error("%s", refusal)
    elif isinstance(error.original_error, CannotGetOperationTypeError):
        error.message = unknown_operation(error.original_error)
    elif _is_an_accident(error):
        execution_logger.error(error, exc_info=error.original_error)
        if not settings.DEBUG:
            error.message = "Internal server error."
            error.extensions = {"code": INTERNAL_ERROR}


def unknown_operation(error: CannotGetOperationTypeError) -> str:
    """Returns the client's message where no operation of a document was executed."""
    return WHICH_OPERATION if error.operation_name is None else error.as_http_error_reason()


def is_request_error(result: ExecutionResult) -> bool:
    """Returns whether the document or its variables were refused before execution.

    An error that a field has raised has a path, also where it nulled the whole data.
    """
    return result.data is None and all(error.path is None for error in result.errors or ())


def is_accident(error: GraphQLError) -> bool:
    """Returns whether the server is at fault, not the request."""
    return _refusal_in(error) is None and _is_an_accident(error)


def _refusal_in(error: GraphQLError) -> TaskError | None:
    cause: BaseException | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause if isinstance(cause, TaskError) else None


def _is_an_accident(error: GraphQLError) -> bool:
    """Returns whether the error is a resolver's exception, not a fault of the request.

    The coercion of arguments also keeps its cause, but such an error has nodes and no path.
    """
    cause = error.original_error
    if cause is None or isinstance(cause, (GraphQLError, *_CLIENT_MISTAKES)):
        return False
    return error.path is not None or error.nodes is None
