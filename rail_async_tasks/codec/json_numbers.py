"""Writes JSON numbers so that every database keeps their value and their type.

PostgreSQL's `jsonb` has one kind of number, a decimal with its places. It keeps `100.0` apart from
`100`, but makes `1e22` a whole number, and it has no negative zero.
"""

from __future__ import annotations

import re
from typing import Final

# A string, or the number that is wanted: what stands in a string is text.
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_NEGATIVE_ZERO: Final = re.compile(rf"{_STRING}|-0\.0(?![0-9])".encode())
_NUMBER: Final = re.compile(rf"{_STRING}|-?[0-9][0-9.eE+-]*")
# The end of a number with an exponent of 0 or more. Rarely the end of anything else.
_EXPONENT: Final = re.compile(r"e[0-9]+(?:[,\]}]|\Z)")


def without_negative_zeros(raw: bytes) -> bytes:
    """Write `-0.0` as `0.0`, which equals it."""
    if b"-0.0" not in raw:
        return raw
    return _NEGATIVE_ZERO.sub(lambda found: b"0.0" if found[0] == b"-0.0" else found[0], raw)


def without_exponents(text: str) -> str:
    """Write `1e22` as `10000000000000000000000.0`, which `jsonb` keeps as a float.

    `text` is as msgspec writes it, with no `E`, no `e+` and no leading zeros. Negative exponents
    stay: what they write has decimal places in any form.
    """
    if _EXPONENT.search(text) is None:
        return text
    return _NUMBER.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    token = found[0]
    if token[0] == '"' or "e" not in token or "e-" in token:
        return token
    mantissa, _, exponent = token.partition("e")
    whole, _, places = mantissa.partition(".")
    shift = int(exponent)
    places = places.ljust(shift, "0")
    return f"{whole}{places[:shift]}.{places[shift:] or '0'}"
