"""Claims executions by id that nothing stands in the way of: see `sql.dispatches`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from rail_async_tasks.ledger.dispatch_records import DeliveryClaim
from rail_async_tasks.ledger.sql.dialects import TABLE, Dialect, claimed_columns
from rail_async_tasks.ledger.sql.statements.claim import claim_sets


def postgresql(dialect: Dialect) -> str:
    """Returns the UPDATE, which leaves out locked rows.

    The status is hidden from the planner, as in `Dialect.held`. The COALESCE is always true;
    by it the planner expects few ids, and looks each up.
    """
    return f"""
            WITH due AS (
                SELECT t.id FROM {TABLE} AS t JOIN unnest(%s::uuid[]) AS r(id) ON t.id = r.id
                WHERE r.id = COALESCE(r.id, r.id)
                    AND t.status || '' IN ('pending', 'retrying')
                    AND (t.run_after IS NULL OR t.run_after <= {dialect.now()})
                    AND t.name = ANY(%s) AND t.crashes < %s AND t.queue <> ALL(%s::text[])
                ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED)
            UPDATE {TABLE} AS t SET {claim_sets(dialect)}
            FROM due WHERE t.id = due.id
            RETURNING {claimed_columns("t.")}"""


def postgresql_parameters(
    dialect: Dialect, wanted: DeliveryClaim, apart: Sequence[str], token: UUID, clock: str | None
) -> list[Any]:
    return [
        list(map(str, wanted.ids)), list(wanted.names), wanted.crashes, list(apart),
        wanted.runtime_id, token,
    ]  # fmt: skip


def sqlite(dialect: Dialect) -> str:
    """Returns the UPDATE. The plus keeps SQLite from walking all waiting rows by an index."""
    return f"""
            UPDATE {TABLE} AS t SET {claim_sets(dialect)}
            FROM (SELECT value AS due_id, c.now AS now
                FROM json_each(%s), (SELECT %s AS now) AS c) AS r
            WHERE t.id = r.due_id AND +t.status IN ('pending', 'retrying')
                AND (t.run_after IS NULL OR t.run_after <= r.now)
                AND t.name IN (SELECT value FROM json_each(%s)) AND t.crashes < %s
                AND t.queue NOT IN (SELECT value FROM json_each(%s))
            RETURNING {claimed_columns()}"""


def sqlite_parameters(
    dialect: Dialect, wanted: DeliveryClaim, apart: Sequence[str], token: UUID, clock: str | None
) -> list[Any]:
    encode = dialect.encoder.encode
    return [
        wanted.runtime_id.hex, token.hex, encode(list(wanted.ids)).decode(), clock,
        encode(list(wanted.names)).decode(), wanted.crashes, encode(apart).decode(),
    ]  # fmt: skip
