"""Python values as JSON that every database can store; errors name the place in the value.

Walks values by hand because serializers are too lenient: they write NaN as `null`, bytes as base64
and int keys as strings, and a database then refuses a NUL that JSON allows. Every refusal names the
path to the value, `rows[2].price`, and never the value, which may be secret.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, Final
from uuid import UUID

import msgspec
from django.db.models import Model, QuerySet
from django.utils.functional import Promise
from strawberry import UNSET, Some
from strawberry.types.base import get_object_definition

from rail_async_tasks.codec.json_numbers import without_negative_zeros
from rail_async_tasks.errors import ResultError

# Levels of lists and objects. SQLite's JSON functions stop at 1000 and Python's own stack sooner,
# depending on who calls: a small fixed number is the same in every process.
MAX_DEPTH: Final = 100

_AS_IS: Final = frozenset({str, int, bool, type(None)})
_NUMBERS_TOO: Final = _AS_IS | {float}
_KEYS: Final = frozenset({str})
_NUL: Final = b"\\u0000"

_encode_sorted: Final = msgspec.json.Encoder(order="deterministic").encode
_encode_as_given: Final = msgspec.json.Encoder().encode


class Mismatch(Exception):
    """A value that has no JSON form. Each level that it passes adds to `path`."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def prefix(self, step: str) -> None:
        self.path = step + self.path


def kind(value: object) -> str:
    """Returns a value's name in messages: its type, or `None`."""
    return "None" if value is None else type(value).__name__


def key_step(key: str) -> str:
    """Returns a key as a step of a path: `.name`, or `['odd name']`."""
    return f".{key}" if key.isidentifier() else f"[{key[:40]!r}]"


def dumps(value: Any) -> bytes:
    """Returns canonical JSON of builtins. Raises `Mismatch`, `RecursionError`."""
    return _storable(value, _encode_sorted)


def encode_result(value: Any) -> bytes:
    """Returns the JSON of a body's result. Raises `ResultError` if it has no JSON form.

    Beside JSON's own types: tuples and mappings; dataclasses, Strawberry objects (without private
    and resolved fields) and msgspec structs, as objects under their Python names; UUIDs and
    Decimals as strings; dates and times in ISO 8601; enum members by value; lazy translations as
    text; `-0.0` as `0.0`. Refused: sets (which have no order), bytes, NaN and infinities, keys that
    are not strings, strings that no database holds, values nested too deeply, and every other
    object.
    """
    try:
        return _storable(plain(value, _natural), _encode_as_given)
    except Mismatch as mismatch:
        raise ResultError(f"result{mismatch.path}: {mismatch.reason}.") from None
    except RecursionError:
        raise ResultError("result: is nested too deeply.") from None


def plain(value: Any, convert: Callable[[Any], Any], depth: int = MAX_DEPTH) -> Any:
    """Returns `value` as JSON builtins; `convert` simplifies or refuses other types."""
    value_type = type(value)
    if value_type in _AS_IS:
        return value
    if value_type is dict:
        return _plain_dict(value, convert, depth)
    if isinstance(value, float):
        if isfinite(value):
            return float.__float__(value)
        raise Mismatch("JSON has no NaN and no infinity")
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, dict):
        return _plain_dict(value, convert, depth)
    if isinstance(value, (list, tuple)):
        return _plain_list(value, convert, depth)
    return plain(convert(value), convert, depth)


def no_json_form(value: Any) -> Any:
    """Raises `Mismatch`: the `convert` of places that accept JSON values only."""
    raise Mismatch(f"{kind(value)} is not a JSON value")


def require_shallow(value: Any, depth: int = MAX_DEPTH) -> None:
    """Raises `Mismatch` where builtins are nested too deeply."""
    if isinstance(value, (dict, list)):
        _require_level(depth)
        for item in value.values() if isinstance(value, dict) else value:
            require_shallow(item, depth - 1)


def _require_level(depth: int) -> None:
    if depth <= 0:
        raise Mismatch(f"is nested more than {MAX_DEPTH} levels deep, or contains itself")


def _plain_list(value: Any, convert: Callable[[Any], Any], depth: int) -> Any:
    _require_level(depth)
    if _all_scalars(value):
        return value if type(value) is list else list(value)
    items = []
    try:
        for item in value:
            items.append(plain(item, convert, depth - 1))
    except Mismatch as mismatch:
        mismatch.prefix(f"[{len(items)}]")
        raise
    return items


def _plain_dict(value: dict[Any, Any], convert: Callable[[Any], Any], depth: int) -> Any:
    _require_level(depth)
    if not set(map(type, value)) <= _KEYS:
        value = _with_plain_keys(value)
    if _all_scalars(value.values()):
        return value if type(value) is dict else dict(value)
    items = {}
    for key, item in value.items():
        if item is UNSET:
            continue
        try:
            items[key] = plain(item, convert, depth - 1)
        except Mismatch as mismatch:
            mismatch.prefix(key_step(key))
            raise
    return items


def _all_scalars(values: Collection[Any]) -> bool:
    """Returns whether all items are scalars: mostly one pass in C over their types."""
    types = set(map(type, values))
    if types <= _AS_IS:
        return True
    if not types <= _NUMBERS_TOO:
        return False
    return all(isfinite(value) for value in values if type(value) is float)


def _with_plain_keys(value: dict[Any, Any]) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise Mismatch(f"has a key of type {kind(key)}; JSON's keys are strings")
    return {str.__str__(key): item for key, item in value.items()}


def _natural(value: Any) -> Any:
    """Returns a simpler form of a type that a body may return beside JSON's."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        if value.is_finite():
            return str(value)
        raise Mismatch("JSON has no NaN and no infinity")
    if isinstance(value, (date, time)):
        text = value.isoformat()
        aware_utc = isinstance(value, datetime) and text.endswith("+00:00")
        return f"{text[:-6]}Z" if aware_utc else text
    if isinstance(value, timedelta):
        return msgspec.to_builtins(value)
    if isinstance(value, Some):
        return value.value
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if (names := _field_names(value)) is not None:
        found = {name: getattr(value, name, UNSET) for name in names}
        return {n: v for n, v in found.items() if v is not UNSET and v is not msgspec.UNSET}
    raise Mismatch(f"{kind(value)} has no JSON form{_advice(value)}")


def _field_names(value: Any) -> tuple[str, ...] | None:
    """Returns the names of an object's fields, or None if it has none to convert."""
    if isinstance(value, type):
        return None
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    definition = get_object_definition(type(value))
    if definition is not None and dataclasses.is_dataclass(value):
        return tuple(f.python_name for f in definition.fields if f.base_resolver is None)
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    return None


def _advice(value: Any) -> str:
    if isinstance(value, (set, frozenset)):
        return "; return sorted(...) or list(...)"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "; decode it, or store it and return where it is"
    if isinstance(value, Model):
        return "; return its pk, or a dict of the fields that matter"
    if isinstance(value, QuerySet):
        return "; return a list of dicts, for example list(queryset.values(...))"
    return "; return dicts, lists, strings, numbers, booleans or None"


def _storable(value: Any, encode: Callable[[Any], bytes]) -> bytes:
    try:
        raw = encode(value)
    except ValueError:  # an unpaired surrogate, or an integer past Python's limit of digits
        _refuse_unstorable(value)
        raise
    # The encoder escapes a NUL; the same bytes after a backslash of the text itself are innocent.
    if _NUL in raw:
        _refuse_unstorable(value)
    return without_negative_zeros(raw)


def _refuse_unstorable(value: Any) -> None:
    """Raises `Mismatch` at the string or number that JSON or a database cannot store."""
    if isinstance(value, str):
        if "\0" in value:
            raise Mismatch("has a NUL character, which databases refuse")
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise Mismatch("has an unpaired surrogate, which is not valid Unicode")
    elif isinstance(value, int):
        try:
            str(value)
        except ValueError:
            raise Mismatch("is an integer of too many digits") from None
    elif isinstance(value, dict):
        for key, item in value.items():
            try:
                _refuse_unstorable(key)
                _refuse_unstorable(item)
            except Mismatch as mismatch:
                mismatch.prefix(key_step(key))
                raise
    elif isinstance(value, list):
        for index, item in enumerate(value):
            try:
                _refuse_unstorable(item)
            except Mismatch as mismatch:
                mismatch.prefix(f"[{index}]")
                raise
