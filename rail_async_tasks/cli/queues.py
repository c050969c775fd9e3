"""`tasks queues`: each queue, what waits in it, and whether it is paused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rail_async_tasks import queues as control
from rail_async_tasks.cli.exits import OK
from rail_async_tasks.cli.filters import database
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.tables import Column
from rail_async_tasks.cli.words import duration


def _oldest(queue: Mapping[str, Any]) -> str:
    seconds = queue["oldest_seconds"]
    return "-" if seconds is None else duration(seconds)


COLUMNS: Final = (
    Column("QUEUE", lambda it: it["name"], shrinks=True),
    Column("STATE", lambda it: "paused" if it["paused"] else "open"),
    Column("PENDING", lambda it: it["pending"], right=True),
    Column("OLDEST", _oldest, right=True),
    Column("RETRYING", lambda it: it["retrying"], right=True),
    Column("RUNNING", lambda it: it["running"], right=True),
    Column("PRIORITY", lambda it: it["priority"], spare=1, right=True),
    Column("LIMIT", lambda it: it["concurrency"] or "-", spare=2, right=True),
    Column("RATE", lambda it: it["rate"] or "-", spare=2, right=True),
    Column("PAUSED BY", lambda it: it["paused_by"] or "-", spare=3, shrinks=True),
)


def run(screen: Screen, options: Mapping[str, Any]) -> int:
    """Writes the queues. Returns the exit code."""
    found = queues()
    if options["json"]:
        screen.document({"results": found})
    else:
        screen.table(COLUMNS, found)
    return OK


def queues() -> list[dict[str, Any]]:
    """Returns each queue of the settings, of declared tasks and of unfinished rows.

    By priority, highest first. `oldest_seconds` is the age of the oldest pending task that is due.
    """
    database()
    names = (
        "name", "paused", "paused_at", "paused_by", "pending", "retrying", "running",
        "oldest_seconds", "priority", "concurrency", "rate",
    )  # fmt: skip
    return [{name: getattr(it, name) for name in names} for it in control.list()]
