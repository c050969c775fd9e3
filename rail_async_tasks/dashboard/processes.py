"""The page `tasks/processes/`."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, page


@page
def processes_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page."""
    return base_page(request, visitor, "empty.html", title="Processes", here="processes")


ROUTES: Final = (path("tasks/processes/", processes_page, name="processes"),)
