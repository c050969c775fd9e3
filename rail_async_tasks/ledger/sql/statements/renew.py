"""Renews a lease on PostgreSQL, and reads in the same statement what has become of the others.

All parts of a statement see the rows as they stood when it began: the lease before its renewal, and
holders together with their leases. A runtime is registered before it holds a row, so that a holder
without a live lease is dead.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from rail_async_tasks.ledger.records import INLINE_HOLDER, INLINE_SECONDS, Vitals
from rail_async_tasks.ledger.sql.dialects import TABLE
from rail_async_tasks.models import TaskRuntime

_LEASES: Final = TaskRuntime._meta.db_table

# Answers whether it was renewed, the seconds that it had left, whether another one has lapsed,
# whether there are others, and the dead holders.
RENEW: Final = f"""
    WITH renewed AS (
        UPDATE {_LEASES} SET renewed_at = now(), lapses_at = now() + %s * interval '1 second',
            role = %s, lag_seconds = %s, leaked = %s
        WHERE id = %s AND NOT dead RETURNING id)
    SELECT EXISTS (SELECT FROM renewed),
        (SELECT extract(epoch FROM lapses_at - now())::float8 FROM {_LEASES} WHERE id = %s),
        EXISTS (SELECT FROM {_LEASES} WHERE NOT dead AND lapses_at < now() AND id <> %s),
        EXISTS (SELECT FROM {_LEASES} WHERE NOT dead AND id <> %s),
        ARRAY(SELECT DISTINCT e.runtime_id FROM {TABLE} AS e
            WHERE e.status = 'running' AND e.runtime_id IS NOT NULL
            AND NOT (e.runtime_id = %s AND e.started_at > now() - %s * interval '1 second')
            AND NOT EXISTS (SELECT FROM {_LEASES} AS l WHERE l.id = e.runtime_id AND NOT l.dead))
"""


def parameters(runtime_id: UUID, seconds: float, vitals: Vitals) -> list[Any]:
    """Returns what `RENEW` takes."""
    return [
        seconds, vitals.role, vitals.lag_seconds, vitals.leaked, *[runtime_id] * 4,
        INLINE_HOLDER, INLINE_SECONDS,
    ]  # fmt: skip
