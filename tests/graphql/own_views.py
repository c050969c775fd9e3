"""A project's own ways to execute a schema: each view, consumer and context that it may have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import strawberry
from channels.testing import HttpCommunicator
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.test import AsyncRequestFactory, RequestFactory
from strawberry.channels import GraphQLHTTPConsumer, GraphQLWSConsumer, SyncGraphQLHTTPConsumer
from strawberry.django.views import AsyncGraphQLView, GraphQLView

from rail_async_tasks.graphql import TaskGraphQLConsumer, TaskGraphQLView
from tests.support.sockets import Socket
from tests.support.waiting import TIMEOUT


@dataclass
class OwnContext:
    """A dataclass, as Strawberry's documentation suggests for typed contexts."""

    request: HttpRequest
    loaders: dict[str, Any]


class SlottedContext:
    """An object that takes no attributes of others."""

    __slots__ = ("request",)

    def __init__(self, request: HttpRequest) -> None:
        self.request = request


CONTEXTS = {
    "dict": lambda request: {"request": request},
    "dataclass": lambda request: OwnContext(request, {}),
    "object": SlottedContext,
}


def _async_view(context: Any) -> Any:
    class View(AsyncGraphQLView):  # type: ignore[type-arg]
        async def get_context(self, request: Any, response: Any) -> Any:
            return context(request)

    return View


def _sync_view(context: Any) -> Any:
    class View(GraphQLView):  # type: ignore[type-arg]
        def get_context(self, request: Any, response: Any) -> Any:
            return context(request)

    return View


ASYNC_VIEWS = {
    "AsyncGraphQLView": AsyncGraphQLView,
    "TaskGraphQLView": TaskGraphQLView,
    **{f"async, {name}": _async_view(context) for name, context in CONTEXTS.items()},
}
SYNC_VIEWS = {
    "GraphQLView": GraphQLView,
    **{f"sync, {name}": _sync_view(context) for name, context in CONTEXTS.items()},
}
HTTP_CONSUMERS = {
    "GraphQLHTTPConsumer": GraphQLHTTPConsumer,
    "SyncGraphQLHTTPConsumer": SyncGraphQLHTTPConsumer,
}
SOCKETS = {
    "GraphQLWSConsumer": GraphQLWSConsumer,
    "TaskGraphQLConsumer": TaskGraphQLConsumer,
}
EVERY_WAY = [*ASYNC_VIEWS, *SYNC_VIEWS, *HTTP_CONSUMERS, *SOCKETS]


async def ask(way: str, schema: strawberry.Schema, query: str, user: Any = None) -> Any:
    """Executes a query in one of the ways; returns the decoded answer."""
    user = AnonymousUser() if user is None else user
    if way in ASYNC_VIEWS:
        request = AsyncRequestFactory().post("/", {"query": query}, "application/json")
        request.user = user
        response = await ASYNC_VIEWS[way].as_view(schema=schema)(request)
        return json.loads(response.content)
    if way in SYNC_VIEWS:
        from asgiref.sync import sync_to_async

        return await sync_to_async(ask_sync)(way, schema, query, user)
    if way in HTTP_CONSUMERS:
        return await _ask_consumer(way, schema, query, user)
    return await _ask_socket(way, schema, query, user)


def ask_sync(way: str, schema: strawberry.Schema, query: str, user: Any) -> Any:
    """Executes a query by a synchronous view."""
    request = RequestFactory().post("/", {"query": query}, "application/json")
    request.user = user
    return json.loads(SYNC_VIEWS[way].as_view(schema=schema)(request).content)


async def _ask_consumer(way: str, schema: strawberry.Schema, query: str, user: Any) -> Any:
    body = json.dumps({"query": query}).encode()
    headers = [(b"content-type", b"application/json"), (b"host", b"testserver")]
    communicator = HttpCommunicator(
        HTTP_CONSUMERS[way].as_asgi(schema=schema), "POST", "/graphql/", body, headers
    )
    communicator.scope["user"] = user
    communicator.scope.setdefault("scheme", "http")
    response = await communicator.get_response(timeout=TIMEOUT)
    return json.loads(response["body"])


async def _ask_socket(way: str, schema: strawberry.Schema, query: str, user: Any) -> Any:
    application = SOCKETS[way].as_asgi(schema=schema)
    socket = Socket(application=application, scope={"path": "/", "user": user})
    await socket.ready()
    await socket.subscribe(query)
    answer = await socket.receive()
    await socket.leave()
    payload = answer["payload"]
    return {"data": None, "errors": payload} if isinstance(payload, list) else payload
