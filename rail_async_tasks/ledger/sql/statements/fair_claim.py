"""Claims due rows of one queue where more wait than may run: owners take turns.

Of the highest priority it numbers each owner's first rows. An owner who has few running, counting
these, goes first.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rail_async_tasks.ledger.records import QueueClaim
from rail_async_tasks.ledger.sql.dialects import TABLE, Dialect, claimed_columns
from rail_async_tasks.ledger.sql.statements.claim import claim_sets

_DUE = "status IN ('pending', 'retrying') AND run_after IS NULL"

# The owners who have due rows in a queue: one step along the index for each, not a row each.
_OWNERS = f"""
        owners AS (
            SELECT * FROM (
                SELECT COALESCE(owner_id, '') AS owner FROM {TABLE}
                WHERE queue = %s AND {_DUE} ORDER BY COALESCE(owner_id, '') LIMIT 1) AS first
            UNION ALL
            SELECT (
                SELECT COALESCE(owner_id, '') FROM {TABLE}
                WHERE queue = %s AND {_DUE} AND COALESCE(owner_id, '') > owners.owner
                ORDER BY COALESCE(owner_id, '') LIMIT 1)
            FROM owners WHERE owners.owner IS NOT NULL)"""


def postgresql(dialect: Dialect) -> str:
    """Returns the UPDATE, which leaves out locked rows."""
    return f"""
            WITH RECURSIVE {_OWNERS},
            wanted AS (SELECT %s::text AS queue, %s::text[] AS names, %s::int AS crashes,
                %s::jsonb AS running, %s::int AS most),
            top AS (
                SELECT t.priority FROM {TABLE} AS t, wanted AS w
                WHERE t.queue = w.queue AND {_DUE}
                    AND t.name = ANY(w.names) AND t.crashes < w.crashes
                ORDER BY t.priority DESC, t.id LIMIT 1),
            heads AS (
                SELECT h.id,
                    row_number() OVER (PARTITION BY o.owner ORDER BY h.id)
                        + COALESCE((w.running ->> o.owner)::int, 0) AS turn
                FROM wanted AS w CROSS JOIN owners AS o CROSS JOIN LATERAL (
                    SELECT t.id FROM {TABLE} AS t
                    WHERE t.queue = w.queue AND {_DUE}
                        AND COALESCE(t.owner_id, '') = o.owner
                        AND t.priority = (SELECT priority FROM top)
                        AND t.name = ANY(w.names) AND t.crashes < w.crashes
                    ORDER BY t.id
                    LIMIT (SELECT most FROM wanted) / (SELECT count(*) FROM owners) + 1) AS h
                WHERE o.owner IS NOT NULL),
            chosen AS (SELECT id FROM heads ORDER BY turn, id LIMIT (SELECT most FROM wanted)),
            due AS (
                SELECT t.id FROM {TABLE} AS t JOIN chosen ON chosen.id = t.id
                WHERE {_DUE}
                FOR NO KEY UPDATE OF t SKIP LOCKED)
            UPDATE {TABLE} AS t SET {claim_sets(dialect)}
            FROM due WHERE t.id = due.id
            RETURNING {claimed_columns("t.")}"""


def postgresql_parameters(
    dialect: Dialect, claim: QueueClaim, runtime_id: UUID, token: UUID, clock: str | None
) -> list[Any]:
    running = dialect.encoder.encode(claim.running).decode()
    return [
        claim.queue, claim.queue, claim.queue, list(claim.names), claim.crashes, running,
        claim.limit, runtime_id, token,
    ]  # fmt: skip


def sqlite(dialect: Dialect) -> str:
    """Returns the UPDATE."""
    claimable = f"""x.queue = w.queue AND {_DUE} AND x.crashes < w.crashes
                        AND x.name IN (SELECT value FROM json_each(w.names))"""
    return f"""
            WITH RECURSIVE {_OWNERS},
            w AS (SELECT %s AS queue, %s AS names, %s AS crashes, %s AS running, %s AS most),
            top AS (
                SELECT x.priority FROM {TABLE} AS x INDEXED BY rat_due, w WHERE {claimable}
                ORDER BY x.priority DESC, x.id LIMIT 1),
            heads AS (
                SELECT h.id,
                    row_number() OVER (PARTITION BY o.owner ORDER BY h.id)
                        + COALESCE((SELECT value FROM json_each(w.running) WHERE key = o.owner), 0)
                        AS turn
                FROM w CROSS JOIN owners AS o JOIN {TABLE} AS h ON h.id IN (
                    SELECT x.id FROM {TABLE} AS x
                    WHERE {claimable} AND COALESCE(x.owner_id, '') = o.owner
                        AND x.priority = (SELECT priority FROM top)
                    ORDER BY x.id
                    LIMIT (SELECT most FROM w) / (SELECT count(*) FROM owners) + 1)
                WHERE o.owner IS NOT NULL)
            UPDATE {TABLE} AS t SET {claim_sets(dialect)}
            FROM (
                SELECT id AS due_id, %s AS now FROM heads
                ORDER BY turn, id LIMIT (SELECT most FROM w)) AS r
            WHERE t.id = r.due_id
            RETURNING {claimed_columns()}"""


def sqlite_parameters(
    dialect: Dialect, claim: QueueClaim, runtime_id: UUID, token: UUID, clock: str | None
) -> list[Any]:
    running = dialect.encoder.encode(claim.running).decode()
    names = dialect.encoder.encode(claim.names).decode()
    return [
        claim.queue, claim.queue, claim.queue, names, claim.crashes, running, claim.limit,
        runtime_id.hex, token.hex, clock,
    ]  # fmt: skip
