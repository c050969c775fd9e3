"""The page `tasks/processes/`: living processes, and the last ones that ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, page
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.ledger.records import INLINE_HOLDER
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.service.processes import read_processes
from rail_async_tasks.states import Status

# Running tasks that the page names, of all processes together, the longest running first.
RUNNING_SHOWN: Final = 200
# Processes that have ended, the last ones first.
ENDED_SHOWN: Final = 50


@page
def processes_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page."""
    living, ended = processes(database())
    return base_page(
        request, visitor, "processes.html", title="Processes", here="processes",
        processes=living, ended=ended,
    )  # fmt: skip


def processes(alias: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the living processes and the last ended ones, as the template reads them."""
    found = read_processes(alias, most_dead=ENDED_SHOWN)
    running: dict[Any, list[dict[str, Any]]] = {}
    for row in _longest_running(alias):
        running.setdefault(row["runtime_id"], []).append(row)
    living = [msgspec.structs.asdict(it) | {"up_seconds": it.up_seconds} for it in found.living]
    if found.inline:
        living.append(_inline(found.inline))
    for it in living:
        bodies = running.get(it["id"], [])
        it |= {"bodies": bodies, "more": it["running"] - len(bodies)}
    ended = [
        msgspec.structs.asdict(it)
        | {"lost": it.ended_at is None, "at": it.ended_at or it.renewed_at}
        for it in found.dead
    ]
    return living, ended


def _longest_running(alias: str) -> Iterator[dict[str, Any]]:
    rows = TaskExecution.objects.using(alias).filter(status=Status.RUNNING).order_by("started_at")
    for it in rows.values("id", "name", "started_at", "runtime_id")[:RUNNING_SHOWN]:
        yield dict(it)


def _inline(running: int) -> dict[str, Any]:
    """Returns the line of tasks that run in their callers, under the `sync` backend."""
    return {
        "id": INLINE_HOLDER, "place": "Callers of tasks", "role": "sync backend", "state": "inline",
        "started_at": None, "renewed_at": None, "lag_seconds": None, "leaked": None,
        "running": running, "names": [],
    }  # fmt: skip


ROUTES: Final = (path("tasks/processes/", processes_page, name="processes"),)
