"""`tasks processes`: the processes that run tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rail_async_tasks.cli.exits import OK
from rail_async_tasks.cli.filters import database
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.tables import Column
from rail_async_tasks.cli.words import duration
from rail_async_tasks.service.processes import read_processes

COLUMNS: Final = (
    Column("PROCESS", lambda it: it.place, shrinks=True),
    Column("ROLE", lambda it: it.role or "-"),
    Column("STATE", lambda it: it.state),
    Column("RUNNING", lambda it: it.running, right=True),
    Column("KNOWS", lambda it: len(it.names), spare=2, right=True),
    Column("UP", lambda it: duration(it.up_seconds), right=True),
    Column("LEASE", lambda it: f"{it.lease_seconds:.0f}s", right=True),
    Column("ID", lambda it: it.id, spare=1),
)
# What a process has in the JSON document.
FIELDS: Final = (
    "id", "place", "role", "state", "running", "names", "started_at", "renewed_at", "lapses_at",
    "up_seconds", "lease_seconds",
)  # fmt: skip


def run(screen: Screen, options: Mapping[str, Any]) -> int:
    """Writes the processes: the living ones, then the dead ones. Returns the exit code."""
    found = read_processes(database())
    rows = [*found.living, *found.dead]
    if options["json"]:
        results = [{name: getattr(it, name) for name in FIELDS} for it in rows]
        screen.document({"results": results})
    elif rows:
        screen.table(COLUMNS, rows)
    else:
        screen.line("No process has run tasks in the last day.")
    return OK
