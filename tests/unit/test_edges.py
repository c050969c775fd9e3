"""Edges as data, and the statements of both dialects, which must change their columns. No database.

`tests/contract/test_edges.py` compares the values that every ledger stores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from rail_async_tasks.ledger.edges import (
    CANCEL_WAITING,
    CLAIM,
    CREATE,
    CREATE_CLAIMED,
    EDGES,
    FAIL_UNKNOWN,
    NULL,
    PROGRESS,
    RECOVER,
    RETRY,
    SETTLE,
    STAGE,
    Edge,
    Fixed,
    Now,
)
from rail_async_tasks.ledger.sql.dialects import SNAPSHOT
from rail_async_tasks.ledger.sql.texts import STATEMENTS
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.states import FINAL, WAITING, Status

COLUMNS = {field.column for field in TaskExecution._meta.concrete_fields}

UPDATES: dict[str, tuple[Edge, ...]] = {
    "claim": (CLAIM,),
    "claim_suspect": (CLAIM,),
    "claim_fair": (CLAIM,),
    "settle": tuple(SETTLE.values()),
    "progress": (PROGRESS,),
    "recover": tuple(RECOVER.values()),
    "stage": (STAGE,),
}

by_name = pytest.mark.parametrize("edge", EDGES, ids=[edge.name for edge in EDGES])
on_both = pytest.mark.parametrize("vendor", STATEMENTS)


def status_of(edge: Edge) -> Status | None:
    status = edge.columns.get("status")
    return Status(str(status.value)) if isinstance(status, Fixed) else None


def parts(clause: str) -> Iterator[str]:
    """Splits a list of SQL expressions at the commas outside of parentheses."""
    depth, part = 0, ""
    for character in clause:
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            yield part.strip()
            part = ""
        else:
            part += character
    yield part.strip()


def set_clause(text: str) -> dict[str, str]:
    """The columns of an UPDATE's SET clause, and their expressions."""
    found = re.search(r"\bSET (.*?)\s+(?:FROM|WHERE)\b", text, re.DOTALL)
    assert found is not None
    pairs = [part.partition(" = ")[::2] for part in parts(found[1])]
    columns = dict(pairs)
    assert len(columns) == len(pairs), "a column is set twice"
    return columns


# --- the statements -------------------------------------------------------------------------------


@on_both
@pytest.mark.parametrize("name", UPDATES)
def test_an_update_sets_the_columns_of_its_edges(vendor: str, name: str) -> None:
    sets = set_clause(getattr(STATEMENTS[vendor], name))
    assert set(sets) == {column for edge in UPDATES[name] for column in edge.columns}


@on_both
@pytest.mark.parametrize("traced", [False, True])
def test_an_insert_names_the_columns_of_its_edges(vendor: str, traced: bool) -> None:
    """But for a trace context, which is named where a row of the batch has one."""
    text = STATEMENTS[vendor].create[traced]
    found = re.search(r"\((.*?)\)\s+SELECT (.*?)\s+FROM ", text, re.DOTALL)
    assert found is not None
    assert CREATE.columns.keys() == CREATE_CLAIMED.columns.keys()
    columns = [it for it in CREATE.columns if traced or it not in ("traceparent", "tracestate")]
    assert found[1].split(", ") == columns
    assert len(list(parts(found[2]))) == len(columns)


@on_both
@pytest.mark.parametrize("name", ["claim", "claim_suspect", "claim_fair"])
def test_a_claim_sets_what_a_retried_row_must_lose(vendor: str, name: str) -> None:
    sets = set_clause(getattr(STATEMENTS[vendor], name))
    empty = {column for column, expression in sets.items() if expression == "NULL"}
    assert empty == {column for column, value in CLAIM.columns.items() if value == NULL}
    assert (sets["attempts"], sets["seq"]) == ("t.attempts + 1", "t.seq + 1")
    # Its parameters come in this order.
    assert [column for column, it in sets.items() if it == "%s"] == ["runtime_id", "token"]


@on_both
@pytest.mark.parametrize(("name", "edges"), [("settle", SETTLE), ("recover", RECOVER)])
def test_a_column_that_not_every_edge_writes_is_kept_by_the_others(
    vendor: str, name: str, edges: dict[Status, Edge]
) -> None:
    """A retry keeps the unique key; only a retry counts one."""
    sets = set_clause(getattr(STATEMENTS[vendor], name))
    for column, expression in sets.items():
        writers = {status for status, edge in edges.items() if column in edge.columns}
        assert (f"t.{column}" in expression.split(" ")) >= (writers != set(edges))


# --- the edges ------------------------------------------------------------------------------------


@by_name
def test_an_edge_writes_columns_that_exist(edge: Edge) -> None:
    assert set(edge.columns) <= COLUMNS
    assert edge in (CREATE, CREATE_CLAIMED) or "id" not in edge.columns


@by_name
def test_the_status_is_set_last(edge: Edge) -> None:
    """MySQL evaluates a value with the columns to its left already changed."""
    assert "status" not in edge.columns or list(edge.columns)[-1] == "status"


@by_name
def test_an_edge_to_another_state_keeps_the_constraints_of_the_table(edge: Edge) -> None:
    """See `TaskExecution.Meta.constraints`."""
    status, columns = status_of(edge), edge.columns
    if status is None or edge in (CREATE, CREATE_CLAIMED):
        return
    assert "seq" in columns
    assert columns["step"] == Fixed(0)
    if status in FINAL:
        assert isinstance(columns["completed_at"], Now)
        assert (columns["unique_key"], columns["run_after"]) == (NULL, NULL)
    if status not in WAITING and edge in (CLAIM, CANCEL_WAITING, FAIL_UNKNOWN):
        assert columns["dispatched_at"] == NULL
    if status is Status.RETRYING:
        assert columns["completed_at"] == NULL
        assert "unique_key" not in columns


def test_every_state_has_an_edge_into_it() -> None:
    assert {status_of(edge) for edge in EDGES} == {*Status, None}
    assert all(status_of(edge) is status for status, edge in (*SETTLE.items(), *RECOVER.items()))
    assert SETTLE[Status.RETRYING] is RETRY


def test_a_snapshot_reads_columns_that_exist() -> None:
    assert set(SNAPSHOT) <= COLUMNS
