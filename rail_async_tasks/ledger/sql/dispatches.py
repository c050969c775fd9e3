"""Claims of delivered ids, and dispatches: the usual case, in one statement for all rows.

What a statement leaves over is looked at one condition after the other, by `orm.dispatches`: it is
locked, of a paused queue or of one with a rate, suspected of crashes, or not to be claimed at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import connections

from rail_async_tasks.ledger.dispatch_records import DeliveryClaim, Dispatch
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.ledger.sql.dialects import DIALECTS
from rail_async_tasks.ledger.sql.texts import STATEMENTS


def claim_plain(
    alias: str, wanted: DeliveryClaim, token: UUID, apart: Sequence[str]
) -> list[Claimed]:
    """Claims what is due and free, and no suspect; in the order in which they are to start.

    Args:
        apart: queues whose rows are left over.
    """
    connection = connections[alias]
    sql, dialect = STATEMENTS[connection.vendor], DIALECTS[connection.vendor].on(connection)
    clock = dialect.clock(connection)
    rows = _run(alias, sql.claim_ids, sql.id_parameters(dialect, wanted, apart, token, clock))
    # RETURNING promises no order.
    return in_order(dialect.claimed(row, token) for row in rows)


def in_order(claimed: Iterable[Claimed]) -> list[Claimed]:
    """Returns claimed executions in the order in which they are to start."""
    return sorted(claimed, key=lambda it: (-it.snapshot.priority, it.snapshot.id))


def can_send(alias: str) -> bool:
    """Returns whether the database has a statement for `send_fresh`."""
    return STATEMENTS[connections[alias].vendor].send is not None


def send_fresh(alias: str, queue: str, backend: str, window: int, limit: int) -> list[Dispatch]:
    """Marks rows that were not sent yet; returns them in the order in which they are to start."""
    statement = STATEMENTS[connections[alias].vendor].send
    assert statement is not None, "`can_send` was asked"
    rows = _run(alias, statement, [queue, limit, window, queue, window, backend])
    return sorted((Dispatch(*row) for row in rows), key=lambda it: (-it.priority, it.id))


def _run(alias: str, statement: str, parameters: Sequence[Any]) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[Any] = cursor.fetchall()
    return rows
