"""Frees executions of a dead holder. The rule is in `docs/how-it-works.md`, table of states."""

from __future__ import annotations

from typing import Any

from rail_async_tasks.ledger.edges import RECOVER
from rail_async_tasks.ledger.records import Recovery
from rail_async_tasks.ledger.sql.dialects import SNAPSHOT, TABLE, Dialect
from rail_async_tasks.ledger.sql.sets import set_by_status, values_of

_SETTLED = (
    "CASE WHEN t.cancel_requested THEN 'cancelled'"
    " WHEN t.rerun_on_crash AND t.crashes < %s THEN 'retrying' ELSE 'failed' END"
)


def _sets(dialect: Dialect) -> str:
    return set_by_status(RECOVER, "lost.settled", values_of(dialect, "lost"))


def postgresql(dialect: Dialect) -> str:
    """Returns the UPDATE, which leaves out locked rows."""
    columns = ", ".join(f"t.{column}" for column in SNAPSHOT)
    return f"""
            WITH lost AS (
                SELECT t.id, {_SETTLED} AS settled, %s::float8 AS ttl, %s::float8 AS callback_hold
                FROM {TABLE} AS t
                WHERE t.status = 'running' AND t.runtime_id = %s
                ORDER BY t.id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)
            UPDATE {TABLE} AS t SET {_sets(dialect)}
            FROM lost WHERE t.id = lost.id
            RETURNING {columns}"""


def postgresql_parameters(recovery: Recovery, limit: int, clock: str | None) -> list[Any]:
    return [recovery.max_crashes, recovery.ttl, recovery.callback_hold, recovery.holder, limit]


def sqlite(dialect: Dialect) -> str:
    """Returns the UPDATE."""
    columns = ", ".join(SNAPSHOT)
    return f"""
            UPDATE {TABLE} AS t SET {_sets(dialect)}
            FROM (
                SELECT id AS lost_id, {_SETTLED} AS settled,
                    %s AS ttl, %s AS callback_hold, %s AS now
                FROM {TABLE} AS t
                WHERE status = 'running' AND runtime_id = %s ORDER BY id LIMIT %s) AS lost
            WHERE t.id = lost.lost_id
            RETURNING {columns}"""


def sqlite_parameters(recovery: Recovery, limit: int, clock: str | None) -> list[Any]:
    return [
        recovery.max_crashes, recovery.ttl, recovery.callback_hold, clock, recovery.holder.hex,
        limit,
    ]  # fmt: skip
