"""The web server that is measured: one schema behind the stock view and behind ours.

`python -m benchmarks.web` serves it by uvicorn and uvloop, and prints its port when it is ready.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import strawberry
from django.http import HttpRequest, HttpResponse
from django.urls import path
from strawberry.django.views import AsyncGraphQLView

from benchmarks.tasks import BURNERS, web_noop
from rail_async_tasks.graphql import Query, TaskGraphQLView, TaskSchema


@strawberry.type
class Payload:
    task_id: strawberry.ID
    status: str
    error: str | None


@strawberry.type
class Mutation:
    start = web_noop

    @strawberry.mutation
    async def constant(self, number: int) -> Payload:
        return Payload(task_id=strawberry.ID("0"), status="pending", error=None)


stock = strawberry.Schema(Query, Mutation)
ours = TaskSchema(Query, Mutation)

# What starts tasks for as long as this process lives.
_neighbours: list[asyncio.Task[None]] = []


async def burn(request: HttpRequest, name: str, rate: int, milliseconds: int) -> HttpResponse:
    """Begins to start so many tasks a second, each of which takes so much of the CPU."""
    _neighbours.append(asyncio.create_task(_start(BURNERS[name], rate, milliseconds)))
    return HttpResponse(b"ok")


async def _start(burner: Any, rate: int, milliseconds: int) -> None:
    loop = asyncio.get_running_loop()
    begun, number = loop.time(), 0
    while True:
        number += 1
        await burner.aenqueue(milliseconds=milliseconds)
        await asyncio.sleep(begun + number / rate - loop.time())


urlpatterns = [
    path("stock/", AsyncGraphQLView.as_view(schema=stock)),
    path("ours/", TaskGraphQLView.as_view(schema=ours)),
    path("burn/<name>/<int:rate>/<int:milliseconds>/", burn),
]


def main() -> None:
    import uvicorn

    from rail_async_tasks.asgi import get_asgi_application

    application = get_asgi_application()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, loop="uvloop", access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    print(listener.getsockname()[1], flush=True)
    server.run([listener])


if __name__ == "__main__":
    main()
