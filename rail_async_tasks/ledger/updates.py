"""Edges as values of an UPDATE or INSERT through Django's ORM, on any database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import F

from rail_async_tasks.ledger.edges import Edge, Fixed, Given, Later, Now, Plus, Value
from rail_async_tasks.ledger.rows import now, storable


class Moment(NamedTuple):
    """The time of a change, as a column takes it, and a time so many seconds after it."""

    now: Any
    after: Callable[[float], Any]


def database_moment(alias: str) -> Moment:
    """Returns the database's own clock, as an expression of the statement."""
    at = now(alias)
    return Moment(at, lambda seconds: at + timedelta(seconds=seconds))


def moment_of(at: datetime) -> Moment:
    """Returns a time that was read from the ledger's clock."""
    return Moment(storable(at), lambda seconds: storable(at + timedelta(seconds=seconds)))


def values_of(edge: Edge, at: Moment, **given: Any) -> dict[str, Any]:
    """Returns the edge's columns and their values, in the edge's order.

    `given` has the fields of the request that the edge names.
    """
    return {column: _value(column, value, at, given) for column, value in edge.columns.items()}


def _value(column: str, value: Value, at: Moment, given: dict[str, Any]) -> Any:
    match value:
        case Fixed():
            return value.value
        case Now():
            return at.now
        case Given():
            return given[value.name]
        case Plus():
            return F(column) + (given[value.by.name] if isinstance(value.by, Given) else value.by)
        case Later():
            seconds = given[value.seconds]
            if seconds is not None and (seconds > 0 or not value.above_zero):
                return at.after(seconds)
            return None if value.otherwise is None else given[value.otherwise.name]
