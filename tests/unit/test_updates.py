"""Edges as values for Django's ORM."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F

from rail_async_tasks.ledger.edges import (
    EDGES,
    NOW,
    NULL,
    ONE_MORE,
    Edge,
    Fixed,
    Given,
    Later,
    Plus,
    Value,
)
from rail_async_tasks.ledger.updates import moment_of, values_of
from rail_async_tasks.models import TaskExecution

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "given", "expected"),
    [
        (NULL, {}, None),
        (Fixed(100), {}, 100),
        (NOW, {}, AT),
        (Given("error"), {"error": "no"}, "no"),
        (ONE_MORE, {}, F("column") + 1),
        (Plus(Given("retried")), {"retried": 0}, F("column") + 0),
        (Later("ttl"), {"ttl": 60.0}, AT + timedelta(seconds=60)),
        (Later("ttl"), {"ttl": 0.0}, AT),
        (Later("ttl"), {"ttl": None}, None),
        (Later("delay", above_zero=True), {"delay": 0.0}, None),
        (Later("delay", above_zero=True), {"delay": 1.0}, AT + timedelta(seconds=1)),
        (Later("delay", otherwise=Given("run_after")), {"delay": None, "run_after": AT}, AT),
    ],
)
def test_a_value(value: Value, given: dict[str, Any], expected: Any) -> None:
    """Each kind of value that an edge may name."""
    edge = Edge("test", {"column": value})
    assert values_of(edge, moment_of(AT), **given) == {"column": expected}


def test_the_status_is_set_last() -> None:
    """MySQL evaluates a value with the columns to its left already changed."""
    given: dict[str, Any] = dict.fromkeys(_requested())
    for edge in EDGES:
        columns = list(values_of(edge, moment_of(AT), **(given | {"retried": 0})))
        assert "status" not in columns[:-1], edge


def test_edges_name_columns_of_the_table() -> None:
    """No edge names a column that does not exist."""
    columns = {field.name for field in TaskExecution._meta.concrete_fields}
    for edge in EDGES:
        assert set(edge.columns) <= columns, edge


def _requested() -> set[str]:
    """The fields of requests that edges name."""
    names: set[str] = set()
    for edge in EDGES:
        for value in edge.columns.values():
            match value:
                case Given(name):
                    names.add(name)
                case Later(seconds, _, otherwise):
                    names |= {seconds} | ({otherwise.name} if otherwise else set())
    return names
