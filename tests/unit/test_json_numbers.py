"""Numbers in JSON text, written so that every database keeps them as they are."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given

from rail_async_tasks.codec import ArgumentsCodec, encode_result
from rail_async_tasks.codec.json_numbers import without_exponents
from rail_async_tasks.errors import InvalidArguments, ResultError
from tests.support.json_values import CORNERS, same, values


def body(value: Any = None, size: float = 0.0) -> None: ...


CODEC = ArgumentsCodec(body, task="t")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1e22", "10000000000000000000000.0"),
        ("-1.5e16", "-15000000000000000.0"),
        ("1.2345678901234568e17", "123456789012345680.0"),
        (
            '[1e16,"1e16",{"1e16":1e16}]',
            '[10000000000000000.0,"1e16",{"1e16":10000000000000000.0}]',
        ),
        ('["\\\\",1e16]', '["\\\\",10000000000000000.0]'),
        ('["\\"",1e16,"\\\\\\"1e16"]', '["\\"",10000000000000000.0,"\\\\\\"1e16"]'),
    ],
)
def test_exponents_are_written_out(text: str, written: str) -> None:
    """In numbers, not in strings that look like some."""
    assert without_exponents(text) == written


@pytest.mark.parametrize(
    "text",
    ["{}", "1e-7", '"1e22"', "100.0", "12345", '["e1","3e22"]', '{"a":"019e22"}', "[2,1e-9]"],
)
def test_what_has_no_exponent_is_left_alone(text: str) -> None:
    """It is the same object: nothing is copied on the usual path."""
    assert without_exponents(text) is text


@given(values)
def test_it_is_the_same_value(value: Any) -> None:
    """For both readers of JSON that rows are read by; no number is left that `jsonb` changes."""
    text = without_exponents(msgspec.json.encode(value).decode())
    for read in (json.loads, msgspec.json.decode):
        assert same(read(text), value)
    kinds = json.loads(text, parse_float=lambda number: number.partition(".")[1])
    assert "" not in leaves_of(kinds, value)


def leaves_of(kinds: Any, value: Any) -> list[Any]:
    """How each float of `value` was written: with a point, or an empty string."""
    if isinstance(value, list):
        return [it for pair in zip(kinds, value, strict=True) for it in leaves_of(*pair)]
    if isinstance(value, dict):
        return [it for key in value for it in leaves_of(kinds[key], value[key])]
    return [kinds] if isinstance(value, float) and abs(value) >= 1 else []


@pytest.mark.parametrize("value", [-0.0, [-0.0, 1], {"-0.0": -0.0}, [[-0.0], "-0.0", -0.05]])
def test_zero_has_no_sign(value: Any) -> None:
    """Arguments and results alike: `jsonb` has none, and a value is the same on every database."""
    stored = CODEC.encode({"value": value})
    for read in (CODEC.decode(stored)["value"], json.loads(encode_result(value))):
        assert same(read, value)
        assert all(math.copysign(1, it) == 1 for it in zeros(read))
    assert math.copysign(1, CODEC.decode(CODEC.encode({"size": -0.0}))["size"]) == 1


def zeros(value: Any) -> list[float]:
    if isinstance(value, list):
        return [zero for it in value for zero in zeros(it)]
    if isinstance(value, dict):
        return zeros(list(value.values()))
    return [value] if isinstance(value, float) and value == 0 else []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1, math.nan], {"a": -math.inf}])
def test_what_is_no_number_is_refused(value: Any) -> None:
    """Where it goes in, in plain words."""
    with pytest.raises(InvalidArguments, match="JSON has no NaN and no infinity"):
        CODEC.encode({"value": value})
    with pytest.raises(ResultError, match="JSON has no NaN and no infinity"):
        encode_result(value)


@pytest.mark.parametrize("value", CORNERS, ids=lambda it: repr(it)[:30])
def test_corners_come_back(value: Any) -> None:
    """Through the codec alone."""
    assert same(CODEC.decode(CODEC.encode({"value": value}))["value"], value)
    assert same(json.loads(encode_result(value)), value)
