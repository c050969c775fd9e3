"""`tasks processes`: the processes that run tasks, from their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from django.db.models import Count

from rail_async_tasks.cli.exits import OK
from rail_async_tasks.cli.filters import database
from rail_async_tasks.cli.screen import Screen
from rail_async_tasks.cli.tables import Column
from rail_async_tasks.cli.words import duration
from rail_async_tasks.conf import IN_PROCESS_BACKENDS, TaskSettings
from rail_async_tasks.ledger.rows import clock, in_utc
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.roles import Role
from rail_async_tasks.states import Status

COLUMNS: Final = (
    Column("PROCESS", lambda it: it["place"], shrinks=True),
    Column("ROLE", lambda it: it["role"] or "-"),
    Column("STATE", lambda it: it["state"]),
    Column("RUNNING", lambda it: it["running"], right=True),
    Column("KNOWS", lambda it: len(it["names"]), spare=2, right=True),
    Column("UP", lambda it: duration(it["up_seconds"]), right=True),
    Column("LEASE", lambda it: f"{it['lease_seconds']:.0f}s", right=True),
    Column("ID", lambda it: it["id"], spare=1),
)


def run(screen: Screen, options: Mapping[str, Any]) -> int:
    """Writes the processes. Returns the exit code."""
    found = processes()
    if options["json"]:
        screen.document({"results": found})
    elif found:
        screen.table(COLUMNS, found)
    else:
        screen.line("No process has run tasks in the last day.")
    return OK


def processes() -> list[dict[str, Any]]:
    """Returns what is known of each process, the longest running first.

    `state` is `alive`; `silent` once its lease has lapsed; `dead` when it has ended or was found
    dead, which is kept for a day. `role` is `web` or `worker`; None for a process of a version
    that stored none. `lease_seconds` are left of the lease, by the database's clock.
    """
    alias = database()
    at = clock(alias)
    held = TaskExecution.objects.using(alias).filter(status=Status.RUNNING).order_by()
    running = dict(held.values_list("runtime_id").annotate(Count("id")))
    return [
        {
            "id": row.id,
            "place": row.place,
            "role": row.role,
            "state": _state(row, at),
            "running": running.get(row.id, 0),
            "names": row.names,
            "started_at": in_utc(row.started_at),
            "renewed_at": in_utc(row.renewed_at),
            "lapses_at": in_utc(row.lapses_at),
            "up_seconds": (in_utc(row.renewed_at) - in_utc(row.started_at)).total_seconds(),
            "lease_seconds": max((in_utc(row.lapses_at) - at).total_seconds(), 0.0),
        }
        for row in TaskRuntime.objects.using(alias).order_by("dead", "started_at", "id")
    ]


def _state(row: TaskRuntime, at: datetime) -> str:
    if row.dead:
        return "dead"
    return "alive" if in_utc(row.lapses_at) > at else "silent"


def running_tasks(
    found: Iterable[Mapping[str, Any]], settings: TaskSettings
) -> list[Mapping[str, Any]]:
    """Returns those of the processes that are alive and run tasks: all, or a broker's workers."""
    alive = [it for it in found if it["state"] == "alive"]
    if settings.backend in IN_PROCESS_BACKENDS:
        return alive
    return [it for it in alive if it["role"] != Role.WEB]
