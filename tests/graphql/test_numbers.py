"""JSON arguments over GraphQL: as variables and as literals they are the same values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.graphql import numbers
from tests.support.api import Api
from tests.support.json_values import CORNERS, same

pytestmark = [
    pytest.mark.parametrize("database", ["sqlite"], indirect=True),
    pytest.mark.usefixtures("database"),
]
KEEP = "mutation($value: JSON!) { keep(value: $value) { status error task { result } } }"


@pytest.fixture
def api(settings: Any) -> Api:
    settings.RAIL_DJANGO_GRAPHQL = {
        "schema_settings": {"mutation_extensions": ["tests.graphql.numbers.NumberMutations"]},
        "task_settings": {"backend": "sync"},
    }
    numbers.seen.clear()
    return Api()


async def test_variables_keep_their_types(api: Api) -> None:
    """Whatever number it is."""
    answer = await api.send(KEEP, {"value": list(CORNERS)})
    (seen,) = numbers.seen
    assert same(seen, list(CORNERS))
    assert same(answer["data"]["keep"]["task"]["result"], list(CORNERS))


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("1", 1), ("-1", -1), ("1.0", 1.0), ("100.00", 100.0), ("1e2", 100.0), ("1E22", 1e22),
        ("10000000000000000000000", 10**22), ("9007199254740993", 2**53 + 1), ("-0.0", 0.0),
        ("{a: 1, b: [1e0, 1]}", {"a": 1, "b": [1.0, 1]}), ('"1"', "1"), ("true", True),
    ],
)  # fmt: skip
async def test_literals_keep_their_types(api: Api, literal: str, value: Any) -> None:
    """A number with a point or an exponent is a float, another one an int of any size."""
    answer = await api.send(f"mutation {{ keep(value: {literal}) {{ error task {{ result }} }} }}")
    (seen,) = numbers.seen
    assert same(seen, value)
    assert same(answer["data"]["keep"]["task"]["result"], value)


@pytest.mark.parametrize("literal", ["1e400", "-1e999", "[1e400]"])
async def test_a_literal_past_what_a_float_holds(api: Api, literal: str) -> None:
    """It would be infinite, which JSON lacks: refused, with no row."""
    answer = await api.send(f"mutation {{ keep(value: {literal}) {{ error }} }}")
    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "INVALID_ARGUMENT"
    assert "JSON has no NaN and no infinity" in error["message"]
    assert numbers.seen == []


@pytest.mark.parametrize("number", ["1e400", "NaN", "Infinity", "-Infinity"])
async def test_a_variable_that_is_no_number(api: Api, number: str) -> None:
    """Python's parser takes these words for floats; they are refused all the same."""
    body = json.dumps({"query": KEEP, "variables": {"value": "?"}}).replace('"?"', number)
    response = await api.post(body.encode())
    assert numbers.seen == []
    assert "JSON has no NaN and no infinity" in response.content.decode()
