"""Stores audit rows. A batch that is repeated after an ambiguous COMMIT stores nothing twice."""

from __future__ import annotations

from typing import Final

from rail_async_tasks.ledger.sql.dialects import EVENTS, TABLE, Dialect

# Field of the record -> its PostgreSQL type.
FIELDS: Final = {
    "id": "uuid", "execution_id": "uuid", "seq": "int", "from_status": "text",
    "to_status": "text", "actor": "text", "reason": "text", "token": "uuid",
}  # fmt: skip


def audit(dialect: Dialect) -> str:
    """Returns the INSERT."""
    return f"""
            INSERT INTO {EVENTS} (
                id, execution_id, name, owner_id, tenant_id, seq, from_status, to_status,
                attempt, at, actor, reason)
            SELECT r.id, r.execution_id, t.name, t.owner_id, t.tenant_id, r.seq, r.from_status,
                r.to_status, CASE WHEN r.from_status IS NULL THEN 0 ELSE t.attempts END,
                {dialect.now()}, r.actor, r.reason
            FROM {dialect.records(FIELDS)} JOIN {TABLE} AS t ON t.id = r.execution_id
            WHERE true
            ON CONFLICT DO NOTHING"""
