"""Stores progress with the rows of the attempts."""

from __future__ import annotations

from typing import Final

from rail_async_tasks.db_connections import Prepared
from rail_async_tasks.ledger.edges import PROGRESS
from rail_async_tasks.ledger.sql.dialects import TABLE, Dialect
from rail_async_tasks.ledger.sql.sets import set_of, values_of

# Field of the record -> its PostgreSQL type.
FIELDS: Final = {
    "id": "uuid", "token": "uuid", "progress": "int", "progress_message": "text", "step": "int",
}  # fmt: skip


def postgresql(dialect: Dialect) -> str:
    """Returns the UPDATE. It leaves out a locked row: the next progress, or the outcome, comes."""
    return Prepared(f"""
            WITH wanted AS (
                SELECT r.* FROM {TABLE} AS t CROSS JOIN {dialect.records(FIELDS)}
                WHERE {dialect.held}
                ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED)
            UPDATE {TABLE} AS t SET {set_of(PROGRESS, values_of(dialect))}
            FROM wanted AS r WHERE t.id = r.id""")


def sqlite(dialect: Dialect) -> str:
    """Returns the UPDATE."""
    return f"""
            UPDATE {TABLE} AS t SET {set_of(PROGRESS, values_of(dialect))}
            FROM {dialect.records(FIELDS)}
            WHERE {dialect.held}"""
