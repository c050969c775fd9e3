"""`tasks errors`: failures by class and place, from the roll-ups."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rail_async_tasks.cli.exits import OK, UNAVAILABLE, Stop
from rail_async_tasks.cli.filters import database
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.tables import Column
from rail_async_tasks.cli.words import duration
from rail_async_tasks.service.statistics import errors


def _ago(key: str) -> Any:
    return lambda it: duration(max((datetime.now(UTC) - it[key]).total_seconds(), 0.0))


COLUMNS: Final = (
    Column("ERROR", lambda it: it["error"], shrinks=True),
    Column("PLACE", lambda it: it["place"] or "-", shrinks=True),
    Column("FAILED", lambda it: it["failed"], right=True),
    Column("RETRIED", lambda it: it["retried"], spare=2, right=True),
    Column("24H", lambda it: it["last_24_hours"], spare=1, right=True),
    Column("LAST", _ago("last_at"), right=True),
    Column("FIRST", _ago("first_at"), spare=3, right=True),
    Column("TASKS", lambda it: ", ".join(it["names"]), spare=4, shrinks=True),
)


def run(screen: Screen, options: Mapping[str, Any]) -> int:
    """Writes the errors of the last two weeks. Returns the exit code."""
    database()
    groups = errors()
    if groups is None:
        raise Stop(
            "This database groups no errors: that works on PostgreSQL, SQLite, MariaDB and MySQL."
            " Use `tasks list --status failed`.",
            UNAVAILABLE,
        )
    found = [
        {
            "error": it.error,
            "place": it.place,
            "names": list(it.names),
            "failed": it.failed,
            "retried": it.retried,
            "last_24_hours": it.lately,
            "first_at": datetime.fromtimestamp(it.first_at, UTC),
            "last_at": datetime.fromtimestamp(it.last_at, UTC),
            "example": it.example_id,
        }
        for it in groups
    ]
    if options["json"]:
        screen.document({"results": found})
    elif found:
        screen.table(COLUMNS, found)
    else:
        screen.line("No attempt has failed in the last two weeks.")
    return OK
