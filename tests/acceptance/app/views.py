"""Views of a project's own, beside the package's."""

from __future__ import annotations

import asyncio

from django.http import HttpRequest, HttpResponse, JsonResponse

from tests.acceptance.app.tasks import climb


def start_climb(request: HttpRequest) -> HttpResponse:
    """Start a task that belongs to nobody."""
    handle = climb.enqueue(steps=2, pause=0.05, label="from a view")
    return JsonResponse({"id": str(handle.id), "status": handle.status})


async def answer_late(request: HttpRequest) -> HttpResponse:
    """Take one second."""
    await asyncio.sleep(1)
    return HttpResponse("late")
