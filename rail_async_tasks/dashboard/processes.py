"""The page `tasks/processes/`: the processes that run tasks, and those that ended of late."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.db.models import Count
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, page
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.ledger.records import INLINE_HOLDER
from rail_async_tasks.ledger.rows import clock, in_utc
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.states import Status

# Running tasks that the page names, of all processes together, the longest running first.
RUNNING_SHOWN: Final = 200
# Processes that have ended, the last ones first.
ENDED_SHOWN: Final = 50


@page
def processes_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page."""
    alive, ended = processes(database())
    return base_page(
        request, visitor, "processes.html", title="Processes", here="processes",
        processes=alive, ended=ended,
    )  # fmt: skip


def processes(alias: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns what is known of live processes, and of those that ended in the last day.

    Times are the database's. A live one whose lease has lapsed is `silent`: others are about to
    take its tasks.
    """
    at = clock(alias)
    running = TaskExecution.objects.using(alias).filter(status=Status.RUNNING).order_by()
    counts = dict(running.values_list("runtime_id").annotate(Count("id")))
    bodies: dict[Any, list[Any]] = {}
    first = running.order_by("started_at").values("id", "name", "started_at", "runtime_id")
    for row in first[:RUNNING_SHOWN]:
        bodies.setdefault(row["runtime_id"], []).append(row)
    rows = TaskRuntime.objects.using(alias)
    alive = []
    for it in rows.filter(dead=False).order_by("started_at", "id"):
        shown = bodies.get(it.id, [])
        count = counts.pop(it.id, 0)
        alive.append(
            _shared(it)
            | {
                "state": "alive" if in_utc(it.lapses_at) > at else "silent",
                "left": max((in_utc(it.lapses_at) - at).total_seconds(), 0.0),
                "lag": it.lag_seconds,
                "leaked": it.leaked,
                "running": count,
                "bodies": shown,
                "more": count - len(shown),
                "names": it.names,
            }
        )
    ended = rows.filter(dead=True).order_by("-renewed_at", "-id")[:ENDED_SHOWN]
    gone = [
        _shared(it)
        | {
            "lost": it.ended_at is None,
            "at": it.ended_at or it.renewed_at,
            "held": counts.get(it.id, 0),
        }
        for it in ended
    ]
    if inline := counts.get(INLINE_HOLDER):
        alive.append(_inline(inline, bodies.get(INLINE_HOLDER, []), at))
    return alive, gone


def _shared(row: TaskRuntime) -> dict[str, Any]:
    return {
        "id": row.id,
        "place": row.place,
        "role": row.role,
        "started_at": row.started_at,
        "renewed_at": row.renewed_at,
    }


def _inline(count: int, bodies: list[dict[str, Any]], at: datetime) -> dict[str, Any]:
    """Returns the line of tasks that run in their callers, under the `sync` backend."""
    return {
        "id": INLINE_HOLDER, "place": "Callers of tasks", "role": "sync backend", "state": "inline",
        "started_at": None, "renewed_at": None, "left": None, "lag": None, "leaked": None,
        "running": count, "bodies": bodies, "more": count - len(bodies), "names": [],
    }  # fmt: skip


ROUTES: Final = (path("tasks/processes/", processes_page, name="processes"),)
