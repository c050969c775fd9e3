"""The page `tasks/queues/`: what each queue holds, and its pause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks import queues as control
from rail_async_tasks.access import find_user, user_id_of
from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, action, page
from rail_async_tasks.dashboard.outcome import done
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.service.statistics import ended_per_minute
from rail_async_tasks.text import is_storable


@page
def queues_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page."""
    return base_page(request, visitor, "queues.html", title="Queues", here="queues", queues=rows())


def rows() -> list[dict[str, Any]]:
    """Returns what the page shows of each queue, the highest priority first."""
    database()
    rates = ended_per_minute()
    return [
        {
            "name": it.name,
            "priority": it.priority,
            "concurrency": it.concurrency,
            "limit": it.rate,
            "paused": it.paused,
            "paused_at": it.paused_at,
            "paused_by": None if it.paused_by is None else who(it.paused_by),
            "pending": it.pending,
            "oldest": it.oldest_seconds,
            "retrying": it.retrying,
            "running": it.running,
            "rate": rates.get(it.name, 0.0),
            "q": f'queue:"{it.name}"',
        }
        for it in control.list()
    ]


def who(name: str) -> str:
    """Returns the name of the user with that id; the text itself where there is none."""
    try:
        user = find_user(name)
    except ValueError:  # "system", or an operator at a terminal
        return name
    return name if user is None else str(user)


@action
def pause(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Pauses the queue that the form names."""
    return _change(request, visitor, control.pause, "is paused", "is paused already")


@action
def resume(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Ends the pause of the queue that the form names."""
    return _change(request, visitor, control.resume, "is resumed", "is not paused")


def _change(
    request: HttpRequest,
    visitor: Visitor,
    change: Callable[..., bool],
    changed: str,
    unchanged: str,
) -> HttpResponseBase:
    queue = request.GET.get("queue", "")
    if not is_storable(queue):
        queue = ""
    by = user_id_of(visitor.user)
    outcome = changed if change(queue, by=by) else unchanged
    return done(request, f"{queue} {outcome}.", "queues", "queues_table.html", queues=rows())


ROUTES: Final = (
    path("tasks/queues/", queues_page, name="queues"),
    path("tasks/queues/pause/", pause, name="pause"),
    path("tasks/queues/resume/", resume, name="resume"),
)
