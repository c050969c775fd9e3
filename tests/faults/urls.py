"""The URLs of the servers that the fault tests start: one more, which counts a loop's tasks."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import include, path


async def asyncio_tasks(request: HttpRequest) -> JsonResponse:
    """The asyncio tasks on the server's loop: how many there are of each kind."""
    return JsonResponse(Counter(map(_kind, asyncio.all_tasks())))


def _kind(task: asyncio.Task[Any]) -> str:
    """Returns its name where it was given one, else its coroutine's."""
    name = task.get_name()
    given = not name.startswith("Task-")
    return name if given else getattr(task.get_coro(), "__qualname__", "a coroutine")


urlpatterns = [
    path("", include("tests.projects.acceptance.urls")),
    path("plain/asyncio-tasks", asyncio_tasks),
]
