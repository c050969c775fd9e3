"""The page `tasks/queues/`."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks.dashboard.base import base_page
from rail_async_tasks.dashboard.gate import Visitor, page


@page
def queues_page(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with the page."""
    return base_page(request, visitor, "empty.html", title="Queues", here="queues")


ROUTES: Final = (path("tasks/queues/", queues_page, name="queues"),)
