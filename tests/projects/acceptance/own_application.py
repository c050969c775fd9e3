"""An ASGI application of a project's own: Starlette, with a lifespan, around Django and a chat."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.projects.acceptance.own_settings")

from channels.generic.websocket import AsyncWebsocketConsumer
from django.urls import path
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from rail_async_tasks.asgi import get_asgi_application, with_tasks


class Chat(AsyncWebsocketConsumer):
    """Says the user's name, then whatever it hears."""

    async def connect(self) -> None:
        await self.accept()
        await self.send(self.scope["user"].get_username())

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await self.send(text_data)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Opens what requests and tasks use."""
    print("starlette has opened", file=sys.stderr)  # noqa: T201
    yield {"opened": "a client"}
    print("starlette has closed", file=sys.stderr)  # noqa: T201


def own(request: Request) -> JSONResponse:
    """Show what the lifespan has left for requests."""
    return JSONResponse({"opened": request.state.opened})


inside = get_asgi_application(websocket=[path("chat/", Chat.as_asgi())])
application = with_tasks(
    Starlette(lifespan=lifespan, routes=[Route("/own", own), Mount("/", app=inside)])
)
