"""Inserts executions. With a token a row is inserted as running: the commit is its claim."""

from __future__ import annotations

from typing import Final

from rail_async_tasks.db_connections import Prepared
from rail_async_tasks.ledger.edges import CREATE, CREATE_CLAIMED
from rail_async_tasks.ledger.sql.dialects import TABLE, Dialect
from rail_async_tasks.ledger.sql.sets import values_of

# Field of the record -> its PostgreSQL type.
FIELDS: Final = {
    "id": "uuid", "name": "text", "queue": "text", "priority": "int", "arguments": "text",
    "max_retries": "int", "rerun_on_crash": "bool", "owner_id": "text", "tenant_id": "text",
    "parent_id": "uuid", "unique_key": "text", "language": "text",
    "traceparent": "text", "tracestate": "text", "delay": "float8",
    "run_after": "timestamptz", "runtime_id": "uuid", "token": "uuid",
}  # fmt: skip


# Columns that a statement leaves out for rows without a span: they cost a hundredth of a task.
TRACE: Final = frozenset({"traceparent", "tracestate"})


def create(dialect: Dialect, *, traced: bool) -> str:
    """Returns the INSERT, which leaves out ids that are there, and returns the rows' times.

    `traced`: some of the rows have a trace context.
    """
    return Prepared(
        f"{create_due(dialect, traced=traced)}"
        f" RETURNING id, {dialect.as_text('created_at')}, {dialect.as_text('run_after')}"
    )


def create_counted(dialect: Dialect, *, traced: bool) -> str:
    """Returns the same INSERT for rows that are due; it returns their number and their time.

    The driver takes longer for a row of an answer than for a row of the request.
    """
    return Prepared(
        f"WITH made AS ({create_due(dialect, traced=traced)} RETURNING 1)"
        f" SELECT count(*), {dialect.as_text(dialect.now())} FROM made"
    )


def create_due(dialect: Dialect, *, traced: bool) -> str:
    """Returns the same INSERT without an answer, for rows whose times are known.

    All are the clock's. On SQLite each row of an answer hands the interpreter over to the loop and
    back.
    """
    render = values_of(dialect)
    without = frozenset[str]() if traced else TRACE
    columns = {name: it for name, it in CREATE.columns.items() if name not in without}
    fields = {name: kind for name, kind in FIELDS.items() if name not in without}
    values = []
    for column, value in columns.items():
        waiting, claimed = render(column, value), render(column, CREATE_CLAIMED.columns[column])
        same = waiting == claimed
        values.append(
            waiting if same else f"CASE WHEN r.token IS NULL THEN {waiting} ELSE {claimed} END"
        )
    return f"""
            INSERT INTO {TABLE} ({", ".join(columns)})
            SELECT {", ".join(values)}
            FROM {dialect.records(fields)}
            WHERE true
            ON CONFLICT (id) DO NOTHING"""
