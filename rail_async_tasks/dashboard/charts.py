"""The page `tasks/charts/`."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, page


@page
def charts_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page."""
    return base_page(request, visitor, "empty.html", title="Charts", here="charts")


ROUTES: Final = (path("tasks/charts/", charts_page, name="charts"),)
