"""Claims due rows of one queue, in the order of priority and age."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rail_async_tasks.ledger.edges import CLAIM
from rail_async_tasks.ledger.records import QueueClaim
from rail_async_tasks.ledger.sql.dialects import TABLE, Dialect, claimed_columns
from rail_async_tasks.ledger.sql.sets import set_of, values_of

# The comparison of `crashes` with the claim's: rows that may run beside others, or suspects.
SOUND, SUSPECT = "<", "> 0 AND crashes >="


def claim_sets(dialect: Dialect) -> str:
    """Returns the SET clause of every claim. Its parameters: the runtime's id and the token."""
    return set_of(CLAIM, values_of(dialect, parameters=True))


def postgresql(dialect: Dialect, compared: str) -> str:
    """Returns the UPDATE, which leaves out locked rows."""
    return f"""
            WITH due AS (
                SELECT id FROM {TABLE}
                WHERE queue = %s AND status IN ('pending', 'retrying') AND run_after IS NULL
                    AND name = ANY(%s) AND crashes {compared} %s
                ORDER BY priority DESC, id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED)
            UPDATE {TABLE} AS t SET {claim_sets(dialect)}
            FROM due WHERE t.id = due.id AND due.id = COALESCE(due.id, t.token)
            RETURNING {claimed_columns("t.")}"""


def postgresql_parameters(
    dialect: Dialect, claim: QueueClaim, runtime_id: UUID, token: UUID, clock: str | None
) -> list[Any]:
    return [claim.queue, list(claim.names), claim.crashes, claim.limit, runtime_id, token]


def sqlite(dialect: Dialect, compared: str) -> str:
    """Returns the UPDATE."""
    return f"""
            UPDATE {TABLE} AS t SET {claim_sets(dialect)}
            FROM (
                SELECT id AS due_id, %s AS now FROM {TABLE}
                WHERE queue = %s AND status IN ('pending', 'retrying') AND run_after IS NULL
                    AND name IN (SELECT value FROM json_each(%s)) AND crashes {compared} %s
                ORDER BY priority DESC, id LIMIT %s) AS r
            WHERE t.id = r.due_id
            RETURNING {claimed_columns()}"""


def sqlite_parameters(
    dialect: Dialect, claim: QueueClaim, runtime_id: UUID, token: UUID, clock: str | None
) -> list[Any]:
    names = dialect.encoder.encode(claim.names).decode()
    return [
        runtime_id.hex, token.hex, clock, claim.queue, names, claim.crashes, claim.limit,
    ]  # fmt: skip
