"""Calls a body, and marks the errors that come before its first line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import InvalidArguments


class NotCalled(Exception):
    """The body did not begin: `error` is `InvalidArguments`, or the TypeError of the call."""

    def __init__(self, error: InvalidArguments | TypeError) -> None:
        super().__init__(error)
        self.error = error


def decode(definition: TaskDefinition, stored: str) -> dict[str, Any]:
    """Returns the arguments of the body as Python values.

    Raises:
        NotCalled: they do not fit the task's signature.
    """
    try:
        return definition.decode(stored)
    except InvalidArguments as error:
        raise NotCalled(error) from None


def call(function: Callable[..., Any], leading: tuple[Any, ...], given: Mapping[str, Any]) -> Any:
    """Calls the function; a coroutine function returns a coroutine, whose body is yet to run.

    Raises:
        NotCalled: the function does not take these arguments. A TypeError from inside the body
            passes as it is.
    """
    try:
        return function(*leading, **given)
    except TypeError as error:
        # Raised in this very frame: the function has none.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise NotCalled(error) from error
        raise


def carried(body: Callable[[], Any]) -> Any:
    """Calls; what would end a coroutine that awaits it comes out as an error like any other."""
    try:
        return body()
    except (StopIteration, GeneratorExit) as error:
        raise RuntimeError(f"The body raised {type(error).__name__}.") from error
