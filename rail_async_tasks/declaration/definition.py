"""The record of a declared task: its function, options and codec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from strawberry.types.field import StrawberryField

from rail_async_tasks.codec import ArgumentsCodec
from rail_async_tasks.codec.encryption import decrypt, encrypt
from rail_async_tasks.conf import get_settings
from rail_async_tasks.declaration.options import TaskOptions, check_arguments, read_options
from rail_async_tasks.declaration.origin import Origin
from rail_async_tasks.errors import TaskDeclarationError

# The size of the column.
_MAX_NAME: Final = 255


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TaskDefinition:
    """A task as declared. Knows nothing about one run."""

    name: str
    function: Callable[..., Any]
    is_coroutine: bool
    takes_root: bool
    takes_info: bool
    codec: ArgumentsCodec
    options: TaskOptions
    origin: Origin

    @property
    def module(self) -> str:
        return self.function.__module__

    @property
    def qualname(self) -> str:
        return self.function.__qualname__

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """Returns the arguments as JSON. Raises `InvalidArguments`."""
        return self.codec.encode(values)

    def stored(self, arguments: bytes) -> str:
        """Returns JSON of `encode` as the row keeps it: sensitive arguments encrypted.

        Raises `ConfigurationError` where there is no key to encrypt them with.
        """
        names = self.options.sensitive
        if names:
            keys = get_settings().encryption_keys
            arguments = encrypt(arguments, keys, task=self.name, names=names)
        return arguments.decode()

    def plain(self, stored: bytes | str) -> bytes | str:
        """Reverse `stored`. Raises `InvalidArguments`, also where no key fits."""
        names = self.options.sensitive
        if not names:
            return stored
        keys = get_settings().encryption_keys
        return decrypt(stored, keys, task=self.name, names=names)

    def decode(self, stored: bytes | str) -> dict[str, Any]:
        """Returns the arguments as Python values, for the function. Raises as `plain`."""
        return self.codec.decode(self.plain(stored))


def define(
    function: Callable[..., Any], *, name: str | None = None, **options: Any
) -> TaskDefinition:
    """Make a definition of a plain `def` or `async def`; it is not registered yet.

    `options` are those of `TaskOptions`. Raises `TaskDeclarationError`.
    """
    is_coroutine = _kind_of(function)
    name = function.__name__ if name is None else name
    if not (isinstance(name, str) and _is_name(name)):
        raise TaskDeclarationError(
            f"{_written(function)}: name must be a string of 1 to {_MAX_NAME} printable characters "
            f"without spaces or <>, not {name!r}."
        )
    codec = ArgumentsCodec(function, task=name)
    options.setdefault("description", inspect.getdoc(function) or None)
    try:
        checked = read_options(options)
        check_arguments(checked, codec)
    except TaskDeclarationError as error:
        raise TaskDeclarationError(f"Task {name!r} ({_written(function)}): {error}") from None
    codec.sensitive = checked.sensitive
    return TaskDefinition(
        name=name,
        function=function,
        is_coroutine=is_coroutine,
        takes_root=codec.takes_root,
        takes_info=codec.takes_info,
        codec=codec,
        options=checked,
        origin=Origin.of(function),
    )


def _kind_of(function: Any) -> bool:
    """Returns whether it is a coroutine function; raises if it is no function of a task."""
    if not inspect.isfunction(function):
        raise TaskDeclarationError(f"{function!r:.200} is not a function; {_remedy(function)}.")
    original = inspect.unwrap(function)
    for it in (function, original):
        if inspect.isgeneratorfunction(it) or inspect.isasyncgenfunction(it):
            raise TaskDeclarationError(
                f"{_written(function)} is a generator; a task returns its result. Call "
                "update_progress() where it yields."
            )
    is_coroutine = bool(iscoroutinefunction(function))
    if not is_coroutine and iscoroutinefunction(original):
        raise TaskDeclarationError(
            f"{_written(function)} is an async def behind a decorator that is not; make the "
            "decorator's wrapper an async def too."
        )
    return is_coroutine


def _remedy(given: Any) -> str:
    if isinstance(given, str):
        return f"give a name by name={given!r}"
    if isinstance(given, StrawberryField):
        return "put @task_mutation in place of @strawberry.mutation, not on top of it"
    return "a task is a plain def or async def, so write one"


def _is_name(name: str) -> bool:
    return (
        0 < len(name) <= _MAX_NAME
        and name.isprintable()
        and not any(char in " <>" for char in name)
    )


def _written(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
