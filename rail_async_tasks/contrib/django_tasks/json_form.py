"""Arguments and results as JSON, by the rules of Django's tasks: no annotation converts them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def as_json(value: Any) -> Any:
    """Returns the value as JSON builtins: tuples as lists, bytes as text, keys as strings.

    Raises:
        TypeError: it has no JSON form.
        ValueError: bytes that are not UTF-8.
    """
    match value:
        case str() | bool() | int() | float() | None:
            return value
        case Mapping():
            return {_key(key): as_json(item) for key, item in value.items()}
        case bytes():
            return _text(value)
        case Sequence():
            return [as_json(item) for item in value]
        case _:
            raise TypeError(f"Unsupported type: {type(value)}")


def _key(key: Any) -> str:
    """Returns a key as `json.dumps` writes it."""
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return _text(key)
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(key)
    raise TypeError(f"Unsupported type of a key: {type(key)}")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"Unsupported value: {type(value)} that is not UTF-8") from None


class Unserializable(Mapping[str, Any]):
    """A result without a JSON form: reading it raises the error.

    A body returns it so that the runtime fails the task as `result_not_serializable`: with the
    error's traceback, and without a retry, as the body has run.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getitem__(self, key: str) -> Any:
        raise self._error

    def __iter__(self) -> Iterator[str]:
        raise self._error

    def __len__(self) -> int:
        raise self._error


def returned(value: Any) -> Any:
    """Returns a body's result as JSON builtins, or an `Unserializable`."""
    try:
        return as_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        return Unserializable(error)
