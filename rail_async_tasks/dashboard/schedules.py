"""The page `tasks/schedules/`: tasks with `cron`, their ticks, and "run now"."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils import timezone

from rail_async_tasks import service
from rail_async_tasks.access import user_id_of
from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, action, page
from rail_async_tasks.dashboard.outcome import done
from rail_async_tasks.dashboard.render import Refused
from rail_async_tasks.dashboard.tables import database
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ledger.rows import clock, in_utc, snapshot_of, snapshot_rows, unexpired
from rail_async_tasks.models import TaskSchedule
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.upkeep.cron import Schedule


@page
def schedules_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page."""
    found, zone = schedules(database()), str(timezone.get_default_timezone())
    return base_page(
        request, visitor, "schedules.html", title="Schedules", here="schedules", schedules=found,
        zone=zone,
    )  # fmt: skip


def schedules(alias: str) -> list[dict[str, Any]]:
    """Returns the schedules of all tasks with `cron`, ordered by their next run."""
    at, rows = clock(alias), {it.name: it for it in TaskSchedule.objects.using(alias).all()}
    ids = [it.last_execution_id for it in rows.values() if it.last_execution_id is not None]
    kept = snapshot_rows(alias).defer("arguments", "traceback", "language", "result")
    last = {it.id: snapshot_of(it) for it in kept.filter(unexpired(alias), id__in=ids)}
    shown = []
    for definition in scheduled():
        row = rows.get(definition.name)
        # A row without an execution is of a schedule that has not ticked yet.
        last_id = None if row is None else row.last_execution_id
        next_at, problem = _next(definition, at)
        shown.append(
            {
                "name": definition.name,
                "cron": definition.options.cron,
                "catch_up": definition.options.catch_up,
                "description": definition.options.description,
                "next_at": next_at,
                "problem": problem,
                "last_at": None if row is None or last_id is None else in_utc(row.last_tick),
                "task": None if last_id is None else last.get(last_id),
            }
        )
    return sorted(shown, key=lambda it: (it["next_at"] is None, it["next_at"], it["name"]))


def scheduled() -> list[TaskDefinition]:
    """Returns the declared tasks with `cron`."""
    return [it for it in registry.definitions() if it.options.cron]


def _next(definition: TaskDefinition, at: datetime) -> tuple[datetime | None, str | None]:
    """Returns the next tick, or why there is none."""
    try:
        next_at = Schedule(str(definition.options.cron)).after(at)
    except ConfigurationError as error:
        return None, str(error)
    return next_at, None if next_at else "This expression has no tick to come."


@action
def run_now(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Starts the task that the form names, as its schedule does; its next tick stays."""
    name = request.GET.get("name", "")
    definition = next((it for it in scheduled() if it.name == name), None)
    if definition is None:
        raise Refused(404, "There is no scheduled task of that name in this process.")
    task = service.enqueue(definition, {}, service.EnqueueOptions(actor=user_id_of(visitor.user)))
    return done(
        request, f"{name} is started, as task {task.id}.", "schedules", "schedules_table.html",
        schedules=schedules(database()),
    )  # fmt: skip


ROUTES: Final = (
    path("tasks/schedules/", schedules_page, name="schedules"),
    path("tasks/schedules/run/", run_now, name="run_now"),
)
