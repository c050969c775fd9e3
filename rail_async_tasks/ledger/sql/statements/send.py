"""Marks due rows of one queue, not sent yet, as sent: as many as its window has room for."""

from __future__ import annotations

from rail_async_tasks.ledger.edges import DISPATCH
from rail_async_tasks.ledger.sql.dialects import TABLE, Dialect
from rail_async_tasks.ledger.sql.sets import set_of, values_of

_DUE = "queue = %s AND status IN ('pending', 'retrying') AND run_after IS NULL"


def postgresql(dialect: Dialect) -> str:
    """Returns the UPDATE, which leaves out locked rows.

    The COALESCE is always true; by it the planner expects few ids, and looks each up. Its
    parameters: the queue, the most rows, the window, the queue, the window, the backend.
    """
    return f"""
            WITH chosen AS (
                SELECT id FROM {TABLE} WHERE {_DUE} AND dispatched_at IS NULL
                ORDER BY priority DESC, id
                LIMIT LEAST(%s, GREATEST(%s - (
                    SELECT count(*) FROM (
                        SELECT FROM {TABLE} WHERE {_DUE} AND dispatched_at IS NOT NULL LIMIT %s
                    ) AS under_way), 0))
                FOR NO KEY UPDATE SKIP LOCKED)
            UPDATE {TABLE} AS t SET {set_of(DISPATCH, values_of(dialect, parameters=True))}
            FROM chosen WHERE t.id = chosen.id AND chosen.id = COALESCE(chosen.id, chosen.id)
            RETURNING t.id, t.name, t.queue, t.priority, t.dispatches"""
