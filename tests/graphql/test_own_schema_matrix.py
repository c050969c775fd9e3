"""Our types in a project's schema, in every way that Strawberry has to execute it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import strawberry
from django.contrib.auth.models import User
from django.db import OperationalError
from django.http import HttpRequest
from strawberry.tools import merge_types

from rail_async_tasks import service
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.graphql import Mutation, Query, Subscription, TaskSchema
from rail_async_tasks.hosting import process
from tests.graphql.own_views import EVERY_WAY, HTTP_CONSUMERS, SOCKETS, SYNC_VIEWS, ask, ask_sync
from tests.projects import shop
from tests.support.api import Configure
from tests.support.waiting import wait_for

MISSING = "0193b1a4-7c1e-7000-8000-000000000001"
START = "mutation { add(a: 1) { status taskId task { ownerId result } } }"


@strawberry.type
class OwnQuery:
    @strawberry.field
    def shelves(self) -> int:
        return 3


TYPES: Any = {
    "query": merge_types("Query", (OwnQuery, Query)),
    "mutation": merge_types("Mutation", (Mutation, shop.TaskMutations)),
    "subscription": merge_types("Subscription", (Subscription, shop.Subscriptions)),
}
SCHEMAS = {"strawberry.Schema": strawberry.Schema(**TYPES), "TaskSchema": TaskSchema(**TYPES)}
# The shop's permission reads `info.context.request.user`.
WITHOUT_A_REQUEST = {"async, dict", "sync, dict", *HTTP_CONSUMERS, "GraphQLWSConsumer"}
each_way = pytest.mark.parametrize("way", EVERY_WAY)
ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
each_schema = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


@dataclass
class People:
    ann: User
    bob: User
    eve: User


@pytest.fixture
def people(configure: Configure, database: object) -> People:
    """Two users and one of the staff; tasks run inline."""
    configure(backend="sync")
    create = User.objects.create
    return People(
        create(username="ann"), create(username="bob"), create(username="eve", is_staff=True)
    )


@pytest.fixture
def without_users(configure: Configure) -> None:
    configure(backend="sync", track_in_database=False)


@pytest.mark.covering("way", "schema")
@ONE_DATABASE
@each_way
@each_schema
async def test_a_task_is_the_caller_s(way: str, schema: strawberry.Schema, people: People) -> None:
    """Started by the user of the request, and seen by that user alone."""
    ann, bob = people.ann, people.bob
    started = (await ask(way, schema, START, ann))["data"]["add"]
    assert started["task"] == {"ownerId": str(ann.pk), "result": 3}

    one = f'{{ shelves task(id: "{started["taskId"]}") {{ ownerId }} }}'
    assert (await ask(way, schema, one, ann))["data"]["task"] == {"ownerId": str(ann.pk)}
    answer = await ask(way, schema, one, bob)
    assert answer["data"] == {"shelves": 3, "task": None}
    assert answer["errors"][0]["extensions"] == {"code": "NOT_FOUND"}

    mine = "{ tasks(limit: 1) { ownerId } }"
    assert (await ask(way, schema, mine, ann))["data"]["tasks"] == [{"ownerId": str(ann.pk)}]
    assert (await ask(way, schema, mine))["data"]["tasks"] == []


@pytest.mark.covering("way", "schema")
@ONE_DATABASE
@each_way
@each_schema
async def test_cancel_and_retry(way: str, schema: strawberry.Schema, people: People) -> None:
    """Both change what the caller may change, and refuse with their codes."""
    ann = people.ann
    id_ = (await ask(way, schema, START, ann))["data"]["add"]["taskId"]
    answer = await ask(way, schema, f'mutation {{ cancelTask(id: "{id_}") {{ id }} }}', ann)
    assert answer["errors"][0]["extensions"] == {"code": "ALREADY_FINAL"}
    again = f'mutation {{ retryTask(id: "{id_}") {{ task {{ parentId ownerId }} }} }}'
    task = (await ask(way, schema, again, ann))["data"]["retryTask"]["task"]
    assert task == {"parentId": id_, "ownerId": str(ann.pk)}
    answer = await ask(way, schema, f'mutation {{ retryTask(id: "{MISSING}") {{ status }} }}', ann)
    assert answer["errors"][0]["extensions"] == {"code": "NOT_FOUND"}


@ONE_DATABASE
@each_way
async def test_the_tenant_of_the_request(way: str, people: People, configure: Configure) -> None:
    """The resolver gets a Django request in every way, Channels' too."""
    configure(
        backend="sync",
        tenant_resolver="tests.graphql.test_own_schema_matrix.tenant_of",
    )
    schema = SCHEMAS["strawberry.Schema"]
    ann = people.ann
    answer = await ask(way, schema, "mutation { add(a: 1) { taskId } }", ann)
    snapshot = await service.aget(SYSTEM, answer["data"]["add"]["taskId"])
    assert snapshot.tenant_id == f"tenant of {ann.pk}"


def tenant_of(request: HttpRequest) -> str:
    """A resolver of the project's that knows Django requests only."""
    assert isinstance(request, HttpRequest)
    return f"tenant of {request.user.pk}"


@pytest.mark.covering("way", "schema")
@ONE_DATABASE
@pytest.mark.parametrize("way", [way for way in EVERY_WAY if way not in WITHOUT_A_REQUEST])
@each_schema
async def test_permission_classes_are_asked(
    way: str, schema: strawberry.Schema, people: People
) -> None:
    """In the form of the execution; with the arguments."""
    restock = "mutation { restock(amount: 2) { task { result } } }"
    answer = await ask(way, schema, restock, people.ann)
    assert answer["data"] == {"restock": None}
    assert answer["errors"][0]["message"] == "Staff only."
    assert (await ask(way, schema, restock, people.eve))["data"]["restock"]["task"]["result"] == 2


@pytest.mark.covering("way", "schema", "debug")
@each_way
@each_schema
@pytest.mark.parametrize("debug", [False, True])
async def test_no_client_reads_an_accident(
    way: str,
    schema: strawberry.Schema,
    debug: bool,
    without_users: None,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has the error with its traceback, the client a code; with DEBUG, the text."""
    settings.DEBUG = debug

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("connection to db.internal failed")

    monkeypatch.setattr("rail_async_tasks.ledger.memory.ledger.MemoryLedger.get", broken)
    answer = await ask(way, schema, f'{{ shelves task(id: "{MISSING}") {{ id }} }}')
    (error,) = answer["errors"]
    if debug:
        assert error["message"] == "connection to db.internal failed"
    else:
        assert error["message"] == "Internal server error."
        assert error["extensions"] == {"code": "INTERNAL_ERROR"}
    assert "db.internal" not in str(answer) or debug
    assert "connection to db.internal failed" in caplog.text


@pytest.mark.covering("way", "schema")
@pytest.mark.parametrize("way", [way for way in EVERY_WAY if way not in SOCKETS])
@each_schema
async def test_a_subscription_without_a_stream_is_refused_with_words(
    way: str, schema: strawberry.Schema, without_users: None
) -> None:
    """Of a synchronous view they say which view to use, else how to ask for a stream."""
    is_sync = way in SYNC_VIEWS or way.startswith("Sync")
    for query in (
        f'subscription {{ taskProgress(taskId: "{MISSING}") {{ id }} }}',
        f'subscription {{ taskUpdated(taskId: "{MISSING}") {{ id }} }}',
        "subscription { myTaskUpdates { id } }",
    ):
        message = (await ask(way, schema, query))["errors"][0]["message"]
        assert ("AsyncGraphQLView" in message) == is_sync
        assert "event-stream" in message or is_sync
        assert "Cannot return null" not in message


@ONE_DATABASE
@pytest.mark.parametrize("way", SOCKETS)
@each_schema
async def test_subscriptions_over_a_socket(
    way: str, schema: strawberry.Schema, people: People
) -> None:
    """The task as it stands, for its owner alone."""
    ann, bob = people.ann, people.bob
    id_ = (await ask(way, schema, START, ann))["data"]["add"]["taskId"]
    query = f'subscription {{ taskProgress(taskId: "{id_}") {{ status ownerId }} }}'
    answer = await ask(way, schema, query, ann)
    assert answer["data"]["taskProgress"] == {"status": "completed", "ownerId": str(ann.pk)}
    answer = await ask(way, schema, query, bob)
    assert answer["errors"][0]["extensions"] == {"code": "NOT_FOUND"}


@pytest.mark.covering("way", "backend")
@ONE_DATABASE
@pytest.mark.parametrize("backend", ["asyncio", "thread"])
@pytest.mark.parametrize("way", SYNC_VIEWS)
def test_a_sync_view_starts_tasks_of_the_default_backend(
    way: str, backend: str, people: People, configure: Configure
) -> None:
    """As under WSGI: the runtime lives in a thread; a query sees the end, a cancel is too late."""
    configure(backend=backend)
    schema = SCHEMAS["strawberry.Schema"]
    try:
        started = ask_sync(way, schema, START, people.ann)["data"]["add"]
        assert started["status"] == "pending"
        id_ = started["taskId"]
        query = f'{{ task(id: "{id_}") {{ status result }} }}'

        def task() -> Any:
            return ask_sync(way, schema, query, people.ann)["data"]["task"]

        wait_for(lambda: task() == {"status": "completed", "result": 3}, "the task completes")
        cancel = f'mutation {{ cancelTask(id: "{id_}") {{ id }} }}'
        (error,) = ask_sync(way, schema, cancel, people.ann)["errors"]
        assert error["extensions"] == {"code": "ALREADY_FINAL"}
    finally:
        process.stop()
