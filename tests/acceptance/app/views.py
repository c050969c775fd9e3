"""A view that is not async: it starts a task wherever Django runs it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse

from tests.acceptance.app.tasks import climb


def start_climb(request: HttpRequest) -> HttpResponse:
    """Start a task that belongs to nobody."""
    handle = climb.enqueue(steps=2, pause=0.05, label="from a view")
    return JsonResponse({"id": str(handle.id), "status": handle.status})
