"""Views of a project's own, beside the package's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)

from tests.projects.acceptance.tasks import climb


def start_climb(request: HttpRequest) -> HttpResponse:
    """Start a task without an owner."""
    handle = climb.enqueue(steps=2, pause=0.05, label="from a view")
    return JsonResponse({"id": str(handle.id), "status": handle.status})


async def answer_late(request: HttpRequest) -> HttpResponse:
    """Make the file `asked` in the folder of the query, and wait for the file `answer` there."""
    folder = Path(request.GET["folder"])
    (folder / "asked").touch()
    while not (folder / "answer").exists():  # noqa: ASYNC110 (another process makes it)
        await asyncio.sleep(0.02)
    return HttpResponse("late")


async def stream_for_ever(request: HttpRequest) -> StreamingHttpResponse:
    """Say something again and again."""

    async def words() -> AsyncIterator[bytes]:
        while True:
            yield b"still here\n"
            await asyncio.sleep(0.05)

    return StreamingHttpResponse(words())


def clients(request: HttpRequest) -> HttpResponse:
    """Show the page of the npm clients that its query names."""
    return HttpResponse(
        '<!doctype html><meta charset="utf-8"><title>Clients</title><link rel="icon" href="data:,">'
        '<body><script type="module" src="/clients/index.js"></script></body>'
    )


def clients_script(request: HttpRequest) -> FileResponse:
    """Serve the bundle that the test run has made."""
    bundle = Path(os.environ["CLIENTS_BUNDLE"])
    return FileResponse(bundle.open("rb"), content_type="text/javascript")
