"""Ends attempts: completed, failed, cancelled, retrying or handed back, in one UPDATE."""

from __future__ import annotations

from typing import Final

from rail_async_tasks.db_connections import Prepared
from rail_async_tasks.ledger.edges import SETTLE
from rail_async_tasks.ledger.sql.dialects import TABLE, Dialect
from rail_async_tasks.ledger.sql.sets import set_by_status, values_of

# Field of the record -> its PostgreSQL type.
FIELDS: Final = {
    "id": "uuid", "token": "uuid", "status": "text", "progress": "int", "progress_message": "text",
    "result": "text", "error": "text", "error_code": "text", "error_type": "text",
    "error_place": "text", "traceback": "text", "retried": "int", "delay": "float8",
    "ttl": "float8", "callback_hold": "float8",
}  # fmt: skip

# The rule of `states.settle`, where the row's own flag is known.
_SETTLED = (
    "CASE WHEN t.cancel_requested AND r.status <> 'completed' THEN 'cancelled' ELSE r.status END"
)


def postgresql(dialect: Dialect) -> str:
    """Returns the UPDATE.

    It locks in the order of ids, so that two processes never wait for each other in a ring. A row
    that another transaction has locked is left out, and settled apart (`Batch.look_after`).
    """
    return Prepared(f"""
            WITH wanted AS (
                SELECT r.*, {_SETTLED} AS settled
                FROM {TABLE} AS t CROSS JOIN {dialect.records(FIELDS)}
                WHERE {dialect.held}
                ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED)
            UPDATE {TABLE} AS t SET {set_by_status(SETTLE, "r.settled", values_of(dialect))}
            FROM wanted AS r WHERE t.id = r.id
            RETURNING t.id, t.status, t.seq, {dialect.as_text("t.updated_at")},
                {dialect.as_text("t.run_after")}, {dialect.as_text("t.expires_at")},
                t.cancel_requested""")


def sqlite(dialect: Dialect) -> str:
    """Returns the UPDATE."""
    return f"""
            UPDATE {TABLE} AS t SET {set_by_status(SETTLE, _SETTLED, values_of(dialect))}
            FROM {dialect.records(FIELDS)}
            WHERE {dialect.held}
            RETURNING id, status, seq, updated_at, run_after, expires_at, cancel_requested"""
