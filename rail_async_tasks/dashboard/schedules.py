"""The page `tasks/schedules/`."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, page


@page
def schedules_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page."""
    return base_page(request, visitor, "empty.html", title="Schedules", here="schedules")


ROUTES: Final = (path("tasks/schedules/", schedules_page, name="schedules"),)
