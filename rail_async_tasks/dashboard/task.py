"""The page of one task, `tasks/<id>/`."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks import service
from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, page


@page
def task_page(request: HttpRequest, visitor: Visitor, task_id: UUID) -> HttpResponseBase:
    """Answers with the page."""
    task = service.get(visitor.viewer, task_id)
    return base_page(request, visitor, "empty.html", title=task.name, here="list", task=task)


ROUTES: Final = (path("tasks/<uuid:task_id>/", task_page, name="task"),)
