"""Converters of types with one JSON value: scalars, custom scalars, enums, literals."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, Final

import msgspec
from strawberry import ID
from strawberry.relay import GlobalID
from strawberry.scalars import JSON
from strawberry.types.scalar import ScalarDefinition

from rail_async_tasks.codec.converters import Conversion, Converter, expected
from rail_async_tasks.codec.json_values import Mismatch, no_json_form, plain


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise expected("a str", value)


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    raise expected("an int", value)


def _boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise expected("a bool", value)


def _number(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise expected("a float", value)
    try:
        number = float(value)
    except OverflowError:
        raise Mismatch("is too large for a float") from None
    if not isfinite(number):
        raise Mismatch("JSON has no NaN and no infinity")
    return number


def _decimal(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(_integer(value))
    if not isinstance(value, Decimal):
        raise expected("a Decimal", value)
    if not value.is_finite():
        raise Mismatch("JSON has no NaN and no infinity")
    return str(value)


def _uuid(value: Any) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    raise expected("a UUID", value)


def _datetime(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise expected("a datetime", value)


def _date(value: Any) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    raise expected("a date", value)


def _time(value: Any) -> str:
    if not isinstance(value, time):
        raise expected("a time", value)
    if value.tzinfo is not None and value.utcoffset() is None:
        raise Mismatch("is a time in a zone whose offset depends on the date; pass a datetime")
    return value.isoformat()


def _timedelta(value: Any) -> Any:
    if isinstance(value, timedelta):
        return msgspec.to_builtins(value)
    raise expected("a timedelta", value)


def _global_id(value: Any) -> str:
    if isinstance(value, GlobalID):
        return str(value)
    raise expected("a GlobalID", value)


def _free(value: Any) -> Any:
    return plain(value, no_json_form)


def _as_is(value: Any) -> Any:
    return value


def _parsed(what: str, parse: Callable[[str], Any]) -> Conversion:
    def from_json(value: Any) -> Any:
        if type(value) is not str:
            raise expected(f"{what} as a string", value)
        try:
            return parse(value)
        except (ValueError, ArithmeticError, msgspec.ValidationError):
            raise Mismatch(f"is not {what}") from None

    return from_json


def _parse_timedelta(value: str) -> timedelta:
    return msgspec.convert(value, timedelta)


def _parse_uuid(value: str) -> uuid.UUID:
    return msgspec.convert(value, uuid.UUID)  # half the time of UUID's own constructor


_JSON_VALUE: Final = Converter(_free, _as_is)

SCALARS: Final[Mapping[object, Converter]] = {
    str: Converter(_text, _text),
    ID: Converter(_text, _text),
    int: Converter(_integer, _integer),
    float: Converter(_number, _number),
    bool: Converter(_boolean, _boolean),
    Decimal: Converter(_decimal, _parsed("a Decimal", Decimal)),
    uuid.UUID: Converter(_uuid, _parsed("a UUID", _parse_uuid)),
    datetime: Converter(_datetime, _parsed("a datetime", datetime.fromisoformat)),
    date: Converter(_date, _parsed("a date", date.fromisoformat)),
    time: Converter(_time, _parsed("a time", time.fromisoformat)),
    timedelta: Converter(_timedelta, _parsed("a timedelta", _parse_timedelta)),
    GlobalID: Converter(_global_id, _parsed("a GlobalID", GlobalID.from_id)),
    JSON: _JSON_VALUE,
    Any: _JSON_VALUE,
    object: _JSON_VALUE,
}


def scalar(annotation: Any) -> Converter | None:
    """Returns the converter of a scalar type, or None if it is no scalar."""
    try:
        known = SCALARS.get(annotation)
    except TypeError:  # not hashable, so not a type
        return None
    if known is not None:
        return known
    definition = getattr(annotation, "_scalar_definition", None)
    return _custom_scalar(definition) if isinstance(definition, ScalarDefinition) else None


def _custom_scalar(definition: ScalarDefinition) -> Converter:
    """Returns the converter of a `strawberry.scalar`, which serializes and parses itself."""
    as_json = _JSON_VALUE.to_json
    serialize = definition.serialize or (lambda value: value)
    parse = definition.parse_value or (lambda value: value)

    def to_json(value: Any) -> Any:
        try:
            plain = serialize(value)
        except Exception as error:
            raise Mismatch(f"is not a {definition.name} ({type(error).__name__})") from error
        return as_json(plain)

    def from_json(value: Any) -> Any:
        try:
            return parse(value)
        except Exception as error:
            raise Mismatch(f"is not a {definition.name} ({type(error).__name__})") from error

    return Converter(to_json, from_json)


def enumeration(enum: type[Enum]) -> Converter:
    """Returns an enum's converter, by name: its values need no JSON form."""
    members = enum.__members__

    def to_json(value: Any) -> str:
        if isinstance(value, enum):
            return value.name
        raise expected(f"a member of {enum.__name__}", value)

    def from_json(value: Any) -> Enum:
        member = members.get(value) if type(value) is str else None
        if member is None:
            raise Mismatch(f"is not the name of a member of {enum.__name__}")
        return member

    return Converter(to_json, from_json)


def literal(choices: Sequence[Any]) -> Converter:
    """Returns the converter of a `Literal`, which compares types too: `True` is not `1`."""
    allowed = frozenset((type(choice), choice) for choice in choices)

    def check(value: Any) -> Any:
        try:
            fits = (type(value), value) in allowed
        except TypeError:  # not hashable
            fits = False
        if not fits:
            raise Mismatch(f"expected one of {', '.join(map(repr, choices))}")
        return value

    return Converter(check, check)
