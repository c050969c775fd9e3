"""Surveys the rows that wait: the queues with due ones, the next delayed one, the paused queues.

Idle processes send it again and again. Each part reads the first entry of a partial index.
"""

from __future__ import annotations

from rail_async_tasks.ledger.sql.dialects import TABLE, Dialect
from rail_async_tasks.models import QueueState

_QUEUES = QueueState._meta.db_table

# Of the queue in the column `value`.
_IS_DUE = (
    f"EXISTS (SELECT 1 FROM {TABLE} AS t WHERE t.queue = q.value"
    " AND t.status IN ('pending', 'retrying') AND t.run_after IS NULL)"
)


def postgresql(dialect: Dialect) -> str:
    """Returns the SELECT, whose parameter is an array of queues. It answers two arrays of names."""
    return f"""
        SELECT ARRAY(SELECT q.value FROM unnest(%s::text[]) AS q(value) WHERE {_IS_DUE}),
            (SELECT extract(epoch FROM min(run_after) - {dialect.now()})::float8
                FROM {TABLE} WHERE run_after IS NOT NULL),
            ARRAY(SELECT name FROM {_QUEUES} WHERE paused_at IS NOT NULL)"""


def sqlite() -> str:
    """Returns the SELECT, whose parameters are a JSON array of queues, and the time.

    It answers two JSON arrays of names.
    """
    return f"""
        SELECT (SELECT json_group_array(q.value) FROM json_each(%s) AS q WHERE {_IS_DUE}),
            (SELECT (julianday(min(run_after)) - julianday(%s)) * 86400.0
                FROM {TABLE} WHERE run_after IS NOT NULL),
            (SELECT json_group_array(name) FROM {_QUEUES} WHERE paused_at IS NOT NULL)"""
