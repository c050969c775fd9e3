"""The stream that keeps a page live."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path

from rail_async_tasks.dashboard.gate import Visitor, page


@page
def live(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Answers with what has changed."""
    return HttpResponse(status=204)


ROUTES: Final = (path("tasks/live", live, name="live"),)
