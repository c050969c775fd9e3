"""Claims of delivered ids, and dispatches: the usual case, in one statement for all rows.

What a statement leaves over is looked at one condition after the other, by `orm.dispatches`: it is
locked, of a paused queue or of one with a rate, suspected of crashes, or not to be claimed at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from django.db import connections

from rail_async_tasks.ledger.dispatch_records import DeliveryClaim, Dispatch
from rail_async_tasks.ledger.records import Claimed
from rail_async_tasks.ledger.sql.dialects import DIALECTS, POSTGRESQL, SQLITE
from rail_async_tasks.ledger.sql.statements import claim, claim_ids, send

_CLAIMS: Final = {
    "postgresql": (claim_ids.postgresql(POSTGRESQL), claim_ids.postgresql_parameters),
    "sqlite": (claim_ids.sqlite(SQLITE), claim_ids.sqlite_parameters),
}
# SQLite has none: there an UPDATE takes the one write lock even where it finds nothing.
_SENDS: Final = {"postgresql": send.postgresql(POSTGRESQL)}


def claim_plain(
    alias: str, wanted: DeliveryClaim, token: UUID, apart: Sequence[str]
) -> list[Claimed]:
    """Claims what is due and free, and no suspect; nothing on databases without the statement.

    Args:
        apart: queues whose rows are left over.
    """
    connection = connections[alias]
    if connection.vendor not in _CLAIMS:
        return []
    statement, parameters_of = _CLAIMS[connection.vendor]
    dialect = DIALECTS[connection.vendor].on(connection)
    rows = _run(alias, statement, parameters_of(
        dialect, wanted, apart, token, dialect.clock(connection)
    ))  # fmt: skip
    return [claim.read(dialect, row, token) for row in rows]


def can_send(alias: str) -> bool:
    """Returns whether `send_fresh` knows the database."""
    return connections[alias].vendor in _SENDS


def send_fresh(alias: str, queue: str, backend: str, window: int, limit: int) -> list[Dispatch]:
    """Marks rows that were not sent yet; returns them in the order in which they are to start."""
    parameters = [queue, limit, window, queue, window, backend]
    sent = [
        Dispatch(*row) for row in _run(alias, _SENDS[connections[alias].vendor], parameters)
    ]
    sent.sort(key=lambda it: (-it.priority, it.id))  # RETURNING promises no order
    return sent


def _run(alias: str, statement: str, parameters: Sequence[Any]) -> list[Any]:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[Any] = cursor.fetchall()
    return rows
