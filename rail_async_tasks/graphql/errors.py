"""Errors for GraphQL clients; details of accidents go to the log alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from django.conf import settings
from django.core.exceptions import PermissionDenied
from graphql import ExecutionResult as CoreResult
from graphql import GraphQLError
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionContext, ExecutionResult

from rail_async_tasks.errors import ConfigurationError, TaskError, TaskFailed
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.graphql")
# Where Strawberry logs what a resolver raises: projects look for it there.
execution_logger = get_logger("strawberry.execution")

INTERNAL_ERROR = "INTERNAL_ERROR"
FORBIDDEN = "FORBIDDEN"
WHICH_OPERATION = (
    "The document must have one operation, or operationName must name one of its operations."
)

# Each is logged and sent; graphql-core's validation ends at as many.
MOST_ERRORS: Final = 100
# Where graphql-core refuses what a resolver returned; its messages quote the value.
_COMPLETION: Final = ("graphql.type.", "graphql.execution.exec")

_SUGGESTION: Final = re.compile(r" Did you mean .+\?\Z", re.DOTALL)

# Mistakes of the client that Strawberry reports as exceptions.
_CLIENT_MISTAKES = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)


def graphql_error(error: TaskError) -> GraphQLError:
    """Returns a refusal as a GraphQL error: public message, code in the extensions."""
    return GraphQLError(_message_of(error), extensions=dict(error.extensions), original_error=error)


def _message_of(error: TaskError) -> str:
    """Returns the public message; the text of another task's exception is none."""
    if isinstance(error, TaskFailed) and not error.declared:
        return error.default_message
    return error.message


class InternalError(Exception):
    """An unforeseen error of ours, in a text that is fit for clients; its cause is the error."""

    def __init__(self) -> None:
        super().__init__("Internal server error.")
        self.extensions = {"code": INTERNAL_ERROR}  # graphql-core copies them into its error


class _OfTheProject(Exception):
    """Carries an error of the project's own code through `errors_for_clients()`."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


@contextmanager
def errors_for_clients() -> Iterator[None]:
    """Turns what a resolver of ours raises into errors for clients, with codes.

    Each resolver of ours uses it, so that codes come with the fields whichever schema class, view
    or consumer serves them, and no client reads the text of an accident, a database's say. With
    `DEBUG` that text stays. `process()` does the same for the project's resolvers.
    """
    try:
        yield
    except TaskError as error:
        raise graphql_error(error) from error
    except PermissionDenied as error:
        raise forbidden(error) from error
    except _OfTheProject as carrier:
        raise carrier.error from carrier.error.__cause__
    except Exception as error:
        if settings.DEBUG or isinstance(error, GraphQLError):
            raise
        raise InternalError from error


@contextmanager
def of_the_project() -> Iterator[None]:
    """Within `errors_for_clients()`: lets what the project's own code raises pass as it is."""
    try:
        yield
    except (TaskError, PermissionDenied, GraphQLError):
        raise
    except Exception as error:
        raise _OfTheProject(error) from error


@contextmanager
def denials_with_codes() -> Iterator[None]:
    """Turns Django's `PermissionDenied`, as strawberry-django's extensions raise it."""
    try:
        yield
    except PermissionDenied as error:
        raise forbidden(error) from error


def forbidden(error: PermissionDenied) -> GraphQLError:
    """Returns a refusal by the project's permissions as a GraphQL error with its code."""
    message = str(error) or "You may not do this."
    return GraphQLError(message, extensions={"code": FORBIDDEN}, original_error=error)


def process(error: GraphQLError, context: ExecutionContext | None) -> None:
    """Makes one error of a result fit for the client, in place; logs it if it is ours.

    Refusals (`TaskError`) and bad queries are not logged. Any other exception is logged, and the
    client gets its text with `DEBUG` only.
    """
    refusal = _refusal_in(error)
    if refusal is not None:
        error.message = _message_of(refusal)
        error.extensions = dict(refusal.extensions)
        if isinstance(refusal, ConfigurationError):
            logger.error("%s", refusal)
    elif isinstance(error.original_error, PermissionDenied):
        error.message = forbidden(error.original_error).message
        error.extensions = {"code": FORBIDDEN}
    elif isinstance(error.original_error, CannotGetOperationTypeError):
        error.message = unknown_operation(error.original_error)
    elif _is_an_accident(error):
        _log(error)
        if not settings.DEBUG:
            error.message = "Internal server error."
            error.extensions = {"code": INTERNAL_ERROR}


def bound(errors: list[GraphQLError]) -> None:
    """Cuts the errors of an answer, in place: a list may have one for each field of each item."""
    more = len(errors) - MOST_ERRORS
    if more > 0:
        errors[MOST_ERRORS:] = [GraphQLError(f"Errors that are left out: {more}.")]


def leave_suggestions_out(errors: Sequence[GraphQLError]) -> None:
    """Cuts the names that graphql-core proposes for a wrong one, in place: they tell the schema."""
    for error in errors:
        if error.original_error is None:
            error.message = _SUGGESTION.sub("", error.message)


def _log(error: GraphQLError) -> None:
    """Logs an accident without the document, which may have arguments written into it.

    `str(error)` would quote the document. A wrong value's message quotes the value, after a colon.
    """
    cause: BaseException | None = error.original_error
    if isinstance(cause, InternalError):
        cause = cause.__cause__
    field = ".".join(str(key) for key in error.path or ()) or "the operation"
    if _is_wrong_value(error):
        reason = error.message.partition(":")[0].rstrip(".")
        execution_logger.error("%s returned a value that its type refuses: %s", field, reason)
    else:
        name = type(cause).__name__
        execution_logger.error("%s raised %s", field, name, exc_info=cause or error.original_error)


def unknown_operation(error: CannotGetOperationTypeError) -> str:
    """Returns the client's message where no operation of a document was executed."""
    return WHICH_OPERATION if error.operation_name is None else error.as_http_error_reason()


def is_request_error(result: ExecutionResult | CoreResult) -> bool:
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
    if _is_wrong_value(error):
        return True
    cause = error.original_error
    if cause is None or isinstance(cause, (GraphQLError, PermissionDenied, *_CLIENT_MISTAKES)):
        return False
    return error.path is not None or error.nodes is None


def _is_wrong_value(error: GraphQLError) -> bool:
    """Returns whether graphql-core refused what a resolver returned: a wrong Int, enum or list.

    It raises a GraphQLError then, as a resolver may do on purpose to show its text; only the place
    where it was raised tells the two apart.
    """
    if error.path is None:
        return False
    cause: BaseException = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    if not isinstance(cause, GraphQLError):
        return False
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return str(module).startswith(_COMPLETION)
