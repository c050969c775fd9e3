"""The page `tasks/errors/`: failures by class and place, with a retry of each group."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks.conf import get_settings
from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, page
from rail_async_tasks.dashboard.svg import sparkline
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.ledger.rows import unexpired
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.rollups.error_places import NO_PLACE
from rail_async_tasks.service.statistics import ErrorGroup, errors
from rail_async_tasks.text import counted

# Names of tasks that a group shows.
NAMES: Final = 5


@page
def errors_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page."""
    alias, groups = database(), errors()
    return base_page(
        request,
        visitor,
        "errors.html",
        title="Errors",
        here="errors",
        counted=groups is not None,
        enabled=get_settings().statistics_enabled,
        groups=shown(alias, groups or []),
    )


def shown(alias: str, groups: list[ErrorGroup]) -> list[dict[str, Any]]:
    """Returns what the page shows of each group. One query: which examples still exist."""
    ids = [it.example_id for it in groups if it.example_id is not None]
    rows = TaskExecution.objects.using(alias).filter(unexpired(alias), id__in=ids).order_by()
    messages = {str(key): error for key, error in rows.values_list("id", "error")}
    return [
        {
            "error": it.error or "unknown",
            "place": it.place,
            "message": messages.get(str(it.example_id)),
            "example": it.example_id if str(it.example_id) in messages else None,
            "names": it.names[:NAMES],
            "more_names": max(len(it.names) - NAMES, 0),
            "failed": it.failed,
            "retried": it.retried,
            "lately": it.lately,
            "first_at": datetime.fromtimestamp(it.first_at, UTC),
            "last_at": datetime.fromtimestamp(it.last_at, UTC),
            "sparkline": sparkline(
                it.hours, f"{counted(it.lately, 'attempt')} in the last 24 hours, by the hour"
            ),
            "q": filter_of(it),
        }
        for it in groups
    ]


def filter_of(group: ErrorGroup) -> str:
    """Returns the filter that chooses exactly the failed tasks of a group."""
    place = f'place:"{group.place}"' if group.place else f"place:{NO_PLACE}"
    return f'state:failed error:"{group.error}" {place}'


ROUTES: Final = (path("tasks/errors/", errors_page, name="errors"),)
