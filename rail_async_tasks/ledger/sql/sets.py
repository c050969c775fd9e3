"""Edges as SQL: the SET clause of an UPDATE, the columns and values of an INSERT. Pure.

Built once, when the statements are: a batch costs nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rail_async_tasks.ledger.edges import Edge, Fixed, Given, Now, Plus, Value
from rail_async_tasks.ledger.sql.dialects import Dialect
from rail_async_tasks.states import Status

# Columns whose text is cast to JSON.
_JSON = frozenset({"arguments", "result"})

Render = Callable[[str, Value], str]


def values_of(dialect: Dialect, record: str = "r", *, parameters: bool = False) -> Render:
    """Returns what renders a column's value as an SQL expression.

    A field of the request is a column of `record`; with `parameters` it is a parameter of the
    statement, in the order of the edge's columns.
    """

    def given(column: str, name: str) -> str:
        if parameters:
            return "%s"
        return f"{record}.{name}{dialect.json if column in _JSON else ''}"

    def render(column: str, value: Value) -> str:
        match value:
            case Fixed(value=fixed):
                return literal(fixed)
            case Now():
                return dialect.now(record)
            case Given(name=name):
                return given(column, name)
            case Plus(by=by):
                more = given(column, by.name) if isinstance(by, Given) else str(by)
                return f"t.{column} + {more}"
        seconds = f"{record}.{value.seconds}"
        condition = f"{seconds} > 0" if value.above_zero else f"{seconds} IS NOT NULL"
        otherwise = value.otherwise and f" ELSE {given(column, value.otherwise.name)}"
        later = dialect.later(seconds, record)
        return f"CASE WHEN {condition} THEN {later}{otherwise or ''} END"

    return render


def literal(value: str | int | bool | None) -> str:
    """Returns a value as an SQL literal, in a text that has parameters."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
    return "'{}'".format(str(value).replace("'", "''").replace("%", "%%"))


def set_of(edge: Edge, render: Render) -> str:
    """Returns the SET clause of one edge."""
    return ", ".join(f"{column} = {render(column, it)}" for column, it in edge.columns.items())


def set_by_status(edges: Mapping[Status, Edge], status: str, render: Render) -> str:
    """Returns the SET clause of edges that one UPDATE makes, each to the state in the key.

    `status` is the SQL expression of the state that a row gets. A column that an edge does not
    write keeps its value where that state is reached.
    """
    columns = {column: None for edge in edges.values() for column in edge.columns}
    sets = []
    for column in columns:
        if column == "status":
            sets.append(f"status = {status}")
            continue
        values = {
            to: render(column, edge.columns[column]) if column in edge.columns else f"t.{column}"
            for to, edge in edges.items()
        }
        sets.append(f"{column} = {_by(status, values)}")
    return ", ".join(sets)


def _by(status: str, values: Mapping[Status, str]) -> str:
    """An expression that chooses one of these by the state; the commonest is the ELSE."""
    expressions = list(values.values())
    usual = max(dict.fromkeys(expressions), key=expressions.count)
    others = {to: it for to, it in values.items() if it != usual}
    if not others:
        return usual
    # One WHEN for each state: no two columns are so alike that it would be worth more.
    whens = " ".join(f"WHEN '{to}' THEN {it}" for to, it in others.items())
    otherwise = "" if usual == "NULL" else f" ELSE {usual}"
    return f"CASE {status} {whens}{otherwise} END"
