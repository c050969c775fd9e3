"""Our types in a project's own `strawberry.Schema`, served by Strawberry's own views and consumer.

Nothing of ours is around the fields there, so what they promise must come with the fields.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import strawberry
from django.http import HttpRequest
from django.test import AsyncRequestFactory
from strawberry.channels import GraphQLWSConsumer
from strawberry.django.views import AsyncGraphQLView
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL
from strawberry.tools import merge_types

from rail_async_tasks import QueueFull
from rail_async_tasks.graphql.mutations import Mutation
from rail_async_tasks.graphql.queries import Query
from rail_async_tasks.graphql.subscriptions import Subscription
from tests.projects import shop
from tests.support.api import Configure
from tests.support.sockets import Socket

MISSING = "0193b1a4-7c1e-7000-8000-000000000001"


@strawberry.type
class OwnQuery:
    @strawberry.field
    async def refused(self) -> int:
        raise QueueFull(retry_after=7)


SCHEMA = strawberry.Schema(
    query=merge_types("Query", (OwnQuery, Query)),
    mutation=merge_types("Mutation", (Mutation, shop.TaskMutations)),
    subscription=merge_types("Subscription", (Subscription, shop.Subscriptions)),
)

OPERATIONS = [
    "{ task(id: 1) { id } }",
    "{ tasks { id } }",
    "mutation { cancelTask(id: 1) { id } }",
    "mutation { retryTask(id: 1) { taskId } }",
    "mutation { add(a: 1) { status } }",
    "subscription { taskProgress(taskId: 1) { id } }",
    "subscription { taskUpdated(taskId: 1) { id } }",
    "subscription { myTaskUpdates { id } }",
]
REFUSALS = [
    (f'{{ task(id: "{MISSING}") {{ id }} }}', "NOT_FOUND"),
    ("{ tasks(limit: 0) { id } }", "INVALID_ARGUMENT"),
    ('{ tasks(status: "odd") { id } }', "INVALID_ARGUMENT"),
    (f'mutation {{ cancelTask(id: "{MISSING}") {{ id }} }}', "NOT_FOUND"),
    (f'mutation {{ retryTask(id: "{MISSING}") {{ status }} }}', "NOT_FOUND"),
    (f'subscription {{ taskProgress(taskId: "{MISSING}") {{ id }} }}', "NOT_FOUND"),
]


def by_object() -> Any:
    """A context as Django's views have it; the consumer's is a dict."""
    return type("Context", (), {"request": HttpRequest(), "response": None})()


async def executed(query: str, context: Any) -> Any:
    """The first result, formatted as Strawberry's transports do."""
    stream = await SCHEMA.stream(query, context_value=context)
    result: Any = await anext(stream)
    await stream.aclose()
    return {"data": result.data, "errors": [it.formatted for it in result.errors or ()]}


async def by_view(query: str, accept: str) -> str:
    """The content of Strawberry's Django view."""
    view = AsyncGraphQLView.as_view(schema=SCHEMA, subscription_protocols=[GRAPHQL_SSE_PROTOCOL])
    request = AsyncRequestFactory().post(
        "/", {"query": query}, content_type="application/json", headers={"accept": accept}
    )
    response: Any = await view(request)
    if not response.streaming:
        return str(response.content.decode())
    return b"".join([chunk async for chunk in response]).decode()


async def by_socket(query: str) -> Any:
    """The first answer of Strawberry's Channels consumer."""
    consumer = GraphQLWSConsumer.as_asgi(schema=SCHEMA)
    socket = Socket(application=consumer, scope={"path": "/"})
    await socket.ready()
    await socket.subscribe(query)
    answer = await socket.receive()
    await socket.leave()
    return answer["payload"]


@pytest.fixture(autouse=True)
def settings_of_the_project(configure: Configure) -> None:
    configure(backend="sync", track_in_database=False)


@pytest.mark.parametrize(("query", "code"), REFUSALS)
async def test_refusals_carry_their_codes(query: str, code: str) -> None:
    """Of queries, mutations and subscriptions, with any schema class and either kind of context."""
    for context in (by_object(), {"request": HttpRequest()}):
        (error,) = (await executed(query, context))["errors"]
        assert error["extensions"] == {"code": code}


@pytest.mark.parametrize("query", OPERATIONS)
async def test_every_field_of_ours_refuses_with_a_code(query: str, configure: Configure) -> None:
    """Errors of tasks too, and mistakes in the settings are not described."""
    for settings, code in (
        ({"enabled": False}, "TASKS_DISABLED"),
        ({"anonymous_access": "deny"}, "UNAUTHENTICATED"),
        ({"max_retries": "many"}, "BACKEND_UNAVAILABLE"),
    ):
        configure(**{"backend": "sync", "track_in_database": False, **settings})
        (error,) = (await executed(query, by_object()))["errors"]
        assert error["extensions"] == {"code": code}
        assert "max_retries" not in error["message"]


async def test_a_project_s_resolver_that_lets_a_refusal_pass() -> None:
    """The code is in the exception, where graphql-core takes it from."""
    (error,) = (await executed("{ refused }", by_object()))["errors"]
    assert error["extensions"] == {"retryAfter": 7, "code": "QUEUE_FULL"}


async def test_by_strawberry_s_view() -> None:
    """Over HTTP and as server-sent events."""
    for query, code in REFUSALS[:-1]:
        assert f'"extensions":{{"code":"{code}"}}' in await by_view(query, "application/json")
    query, code = REFUSALS[-1]
    assert f'"extensions":{{"code":"{code}"}}' in await by_view(query, "text/event-stream")
    done = json.loads(await by_view("mutation { add(a: 1) { status } }", "application/json"))
    assert done == {"data": {"add": {"status": "completed"}}}


async def test_by_strawberry_s_consumer() -> None:
    """Over a WebSocket, whose context is a dict with the consumer as its request."""
    for query, code in REFUSALS:
        answer = await by_socket(query)
        # Before the first event a refusal is an `error`, which is a list of errors.
        (error,) = answer if isinstance(answer, list) else answer["errors"]
        assert error["extensions"] == {"code": code}
    assert (await by_socket("mutation { add(a: 1) { status } }"))["data"] == {
        "add": {"status": "completed"}
    }
