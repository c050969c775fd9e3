"""Converters: pairs of functions, a value to JSON builtins and back; and their combinations.

`to_json` takes a value that a caller passed and is strict: no str becomes an int, no bool a number.
`from_json` takes what was read from the row and gives a real value of the type again. Both raise
`Mismatch` and never put the value into its message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from django.db.models import Model
from strawberry import UNSET, Some

from rail_async_tasks.codec.json_values import Mismatch, key_step, kind

Conversion = Callable[[Any], Any]


class Converter(NamedTuple):
    """The two directions of one type."""

    to_json: Conversion
    from_json: Conversion


class Field(NamedTuple):
    """One parameter or field of an object. The values `absent` and `UNSET` are omitted."""

    name: str
    to_json: Conversion
    from_json: Conversion
    absent: object
    required: bool
    none_when_absent: bool


def expected(what: str, value: object) -> Mismatch:
    remedy = "; pass its primary key" if isinstance(value, Model) else ""
    return Mismatch(f"expected {what}, got {kind(value)}{remedy}")


def optional(inner: Converter) -> Converter:
    to_inner, from_inner = inner
    return Converter(
        lambda value: None if value is None else to_inner(value),
        lambda value: None if value is None else from_inner(value),
    )


def maybe(inner: Converter) -> Converter:
    """Returns the converter of `strawberry.Maybe`, which has a given value in `Some`."""
    to_inner, from_inner = inner

    def to_json(value: Any) -> Any:
        if isinstance(value, Some):
            return to_inner(value.value)
        raise expected("strawberry.Some(...) or None", value)

    return Converter(to_json, lambda value: Some(from_inner(value)))


def sequence(item: Converter, build: type[list[Any] | tuple[Any, ...]]) -> Converter:
    """Returns a converter that accepts lists and tuples; `build` makes the decoded value."""

    def each(values: Sequence[Any], convert: Conversion) -> list[Any]:
        done: list[Any] = []
        try:
            for value in values:
                done.append(convert(value))
        except Mismatch as mismatch:
            mismatch.prefix(f"[{len(done)}]")
            raise
        return done

    def to_json(value: Any) -> list[Any]:
        if isinstance(value, (list, tuple)):
            return each(value, item.to_json)
        raise expected(f"a {build.__name__}", value)

    def from_json(value: Any) -> Any:
        if type(value) is not list:
            raise expected("a list", value)
        done = each(value, item.from_json)
        return done if build is list else build(done)

    return Converter(to_json, from_json)


def mapping(item: Converter) -> Converter:
    def each(values: Mapping[Any, Any], convert: Conversion) -> dict[str, Any]:
        done: dict[str, Any] = {}
        for key, value in values.items():
            if not isinstance(key, str):
                raise Mismatch(f"has a key of type {kind(key)}; JSON's keys are strings")
            try:
                done[str.__str__(key)] = convert(value)
            except Mismatch as mismatch:
                mismatch.prefix(key_step(key))
                raise
        return done

    def to_json(value: Any) -> dict[str, Any]:
        if isinstance(value, Mapping):
            return each(value, item.to_json)
        raise expected("a dict", value)

    def from_json(value: Any) -> dict[str, Any]:
        if type(value) is dict:
            return each(value, item.from_json)
        raise expected("a dict", value)

    return Converter(to_json, from_json)


def _fields_of(value: dict[str, Any], fields: Sequence[Field]) -> dict[str, Any]:
    """Returns the converted fields of a JSON object."""
    done: dict[str, Any] = {}
    for field in fields:
        if field.name not in value:
            if field.required:
                raise Mismatch("is required", f".{field.name}")
            if field.none_when_absent:
                done[field.name] = None
            continue
        try:
            done[field.name] = field.from_json(value[field.name])
        except Mismatch as mismatch:
            mismatch.prefix(f".{field.name}")
            raise
    return done


def structure(cls: type, fields: Sequence[Field]) -> Converter:
    """Returns the converter of a dataclass or input; `fields` may grow later (recursion)."""
    name = cls.__name__

    def to_json(value: Any) -> dict[str, Any]:
        if type(value) is not cls:
            raise expected(f"{name}(...)", value)
        done: dict[str, Any] = {}
        for field in fields:
            item = getattr(value, field.name, UNSET)
            if item is UNSET or item is field.absent:
                if field.required:
                    raise Mismatch("is required", f".{field.name}")
                continue
            try:
                done[field.name] = field.to_json(item)
            except Mismatch as mismatch:
                mismatch.prefix(f".{field.name}")
                raise
        return done

    def from_json(value: Any) -> Any:
        if type(value) is not dict:
            raise expected(f"the fields of {name}", value)
        done = _fields_of(value, fields)
        for key in value:
            if key not in done:
                raise Mismatch(f"{name} has no such field", key_step(key))
        try:
            return cls(**done)
        except Exception as error:
            raise Mismatch(f"{name} refused its fields ({kind(error)})") from error

    return Converter(to_json, from_json)
