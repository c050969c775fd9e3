"""Makes delayed rows due whose time has come, and finds the time of the next.

A time to compare with is the database's clock, or a parameter where the clock is Python's.
"""

from __future__ import annotations

from rail_async_tasks.ledger.edges import STAGE
from rail_async_tasks.ledger.sql.dialects import TABLE, Dialect
from rail_async_tasks.ledger.sql.sets import set_of, values_of


def postgresql(dialect: Dialect) -> str:
    """Returns the UPDATE.

    It skips locked rows, joins by id, and makes the planner expect few rows.
    """
    return f"""
                WITH come AS (
                    SELECT id FROM {TABLE} WHERE run_after <= {dialect.now()}
                    FOR NO KEY UPDATE SKIP LOCKED)
                UPDATE {TABLE} AS t SET {set_of(STAGE, values_of(dialect))}
                FROM come WHERE t.id = come.id AND come.id = COALESCE(come.id, t.token)"""


def postgresql_next_due(dialect: Dialect) -> str:
    """Returns the SELECT of the seconds until the first delayed row is due."""
    return f"""
                SELECT extract(epoch FROM min(run_after) - {dialect.now()}) FROM {TABLE}
                WHERE run_after IS NOT NULL"""


def postgresql_next_due_later(dialect: Dialect) -> str:
    """Returns the same without rows that are due already: a row may be locked when it comes due."""
    return f"""
                SELECT extract(epoch FROM min(run_after) - {dialect.now()}) FROM {TABLE}
                WHERE run_after > {dialect.now()}"""


def sqlite(dialect: Dialect) -> str:
    """Returns the UPDATE."""
    return f"""
                UPDATE {TABLE} SET {set_of(STAGE, values_of(dialect))} WHERE run_after <= %s"""


def sqlite_next_due() -> str:
    """Returns the SELECT of the seconds until the first delayed row is due."""
    return f"""
                SELECT (julianday(min(run_after)) - julianday(%s)) * 86400.0 FROM {TABLE}
                WHERE run_after IS NOT NULL"""
