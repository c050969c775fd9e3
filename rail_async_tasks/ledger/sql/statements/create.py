"""Inserts executions. With a token a row is inserted as running: the commit is its claim."""

from __future__ import annotations

from typing import Final

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


def create(dialect: Dialect) -> str:
    """Returns the INSERT, which leaves out ids that are there, and returns the rows' times."""
    return f"""{create_due(dialect)}
            RETURNING id, {dialect.as_text("created_at")}, {dialect.as_text("run_after")}"""


def create_due(dialect: Dialect) -> str:
    """Returns the same INSERT without an answer, for rows whose times are known.

    All are the clock's. On SQLite each row of an answer hands the interpreter over to the loop and
    back.
    """
    render = values_of(dialect)
    values = []
    for column, value in CREATE.columns.items():
        waiting, claimed = render(column, value), render(column, CREATE_CLAIMED.columns[column])
        same = waiting == claimed
        values.append(
            waiting if same else f"CASE WHEN r.token IS NULL THEN {waiting} ELSE {claimed} END"
        )
    return f"""
            INSERT INTO {TABLE} ({", ".join(CREATE.columns)})
            SELECT {", ".join(values)}
            FROM {dialect.records(FIELDS)}
            WHERE true
            ON CONFLICT (id) DO NOTHING"""
