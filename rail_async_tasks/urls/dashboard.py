"""The URLs of the dashboard: `include("rail_async_tasks.urls.dashboard")`.

Each page's module has its own; a task's page comes last.
"""

from __future__ import annotations

from django.urls import path

from rail_async_tasks.dashboard import (
    actions,
    assets,
    bulk,
    charts,
    errors,
    links,
    live,
    processes,
    queues,
    schedules,
    task,
)
from rail_async_tasks.dashboard import list as task_list

app_name = links.NAMESPACE

urlpatterns = [
    *task_list.ROUTES,
    path("tasks/assets/<str:name>", assets.asset, name="asset"),
    *live.ROUTES,
    *errors.ROUTES,
    *queues.ROUTES,
    *processes.ROUTES,
    *schedules.ROUTES,
    *charts.ROUTES,
    *actions.ROUTES,
    *bulk.ROUTES,
    *task.ROUTES,
]
