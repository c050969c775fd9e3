"""How an operation is answered: by the Accept header, as GraphQL over HTTP and over SSE say."""

from __future__ import annotations

import json
from typing import Any

import pytest
import strawberry
from django.test import Client

from rail_async_tasks import service
from rail_async_tasks.graphql.schema import TaskSchema
from rail_async_tasks.graphql.views import TaskGraphQLView
from rail_async_tasks.hosting import server
from tests.support.api import Api, Configure

URQL = (
    "application/graphql-response+json, application/graphql+json, application/json,"
    " text/event-stream, multipart/mixed"
)
APOLLO = "application/graphql-response+json,application/json;q=0.9"
RESPONSE = "application/graphql-response+json"
EVENTS = "text/event-stream"
SHELVES = {"query": "{ shelves }"}
ADD = {"query": "mutation { add(a: 1) { status } }"}
FOLLOW = {"query": "subscription { brokenStream }"}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tasks that were started."""
    names: list[str] = []
    start = service.aenqueue

    async def aenqueue(definition: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(definition.name)
        return await start(definition, *args, **kwargs)

    monkeypatch.setattr(service, "aenqueue", aenqueue)
    return names


async def text_of(response: Any) -> str:
    """The whole of a stream."""
    assert response["Content-Type"] == EVENTS
    return b"".join([chunk async for chunk in response.streaming_content]).decode()


@pytest.mark.parametrize("accept", [URQL, "text/event-stream;q=0, */*", "text/event-stream, */*"])
async def test_a_query_and_a_mutation_are_json_where_json_is_as_welcome(
    api: Api, accept: str, configure: Configure
) -> None:
    """That events are named beside JSON, as urql does, asks for none."""
    configure(backend="sync", track_in_database=False)
    for body, data in (
        (SHELVES, {"shelves": 3}),
        (ADD, {"add": {"status": "completed"}}),
    ):
        response = await api.post(body, accept=accept)
        assert (response.status_code, response["Content-Type"]) == (200, "application/json")
        assert response.json() == {"data": data}
        assert "Accept" in response["Vary"]


@pytest.mark.parametrize(
    ("body", "data"),
    [(SHELVES, '{"shelves":3}'), (ADD, '{"add":{"status":"completed"}}')],
    ids=["query", "mutation"],
)
async def test_one_result_as_events(api: Api, configure: Configure, body: Any, data: str) -> None:
    """A query or a mutation asked for as events is a stream of one result; lines end with LF."""
    configure(backend="sync", track_in_database=False)
    response = await api.post(body, accept=EVENTS)
    assert await text_of(response) == (
        f'event: next\ndata: {{"data":{data}}}\n\nevent: complete\ndata: \n\n'
    )


async def test_a_query_by_get_as_events(api: Api) -> None:
    """As a browser's EventSource asks."""
    response = await api.client.get("/graphql/", SHELVES, headers={"accept": EVENTS})
    assert '{"data":{"shelves":3}}' in await text_of(response)


async def test_every_line_of_a_stream_ends_with_lf(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comments that keep it open too: urql finds no end of an event in CR LF."""
    transport = TaskGraphQLView.stream_transport_classes_by_protocol["graphql-sse"]()
    assert transport.heartbeat_message(json.dumps) == ": ping\n\n"
    assert "\r" not in await text_of(await api.post(FOLLOW, accept=EVENTS))


async def test_a_subscription_streams_where_events_are_named_at_all(api: Api) -> None:
    """Of the media types that it has, it has but one: that JSON is liked better is no hindrance."""
    for accept in (EVENTS, URQL, "application/json, text/event-stream;q=0.1", "text/*"):
        assert '{"data":{"brokenStream":1}}' in await text_of(await api.post(FOLLOW, accept=accept))


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", RESPONSE, "text/event-stream;q=0, application/json"]
)
async def test_a_subscription_asked_for_as_json_is_a_406(api: Api, accept: str) -> None:
    """With what to send instead. A client that takes anything expects no stream."""
    response = await api.post(FOLLOW, accept=accept)
    assert response.status_code == 406
    assert "text/event-stream" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize("accept", ["text/plain", "multipart/mixed", "application/json;q=0"])
async def test_what_can_not_be_answered_is_not_run(
    api: Api, started: list[str], accept: str
) -> None:
    """A mutation whose answer the client would not read starts nothing; 406 names what there is."""
    response = await api.post(ADD, accept=accept)
    assert (response.status_code, response["Content-Type"]) == (406, "application/json")
    assert "application/json" in response.json()["errors"][0]["message"]
    assert started == []


REQUEST_ERRORS = [
    ({"query": "{"}, "document"),
    ({"query": "{ nothing }"}, "validation"),
    ({"query": "query($i: ID!) { task(id: $i) { id } }", "variables": {"i": None}}, "variables"),
]


@pytest.mark.parametrize(
    "body", [row[0] for row in REQUEST_ERRORS], ids=[row[1] for row in REQUEST_ERRORS]
)
async def test_a_request_that_is_refused_as_a_whole(api: Api, body: Any) -> None:
    """400 without data for who reads graphql-response+json; an old client finds a 200."""
    response = await api.post(body, accept=APOLLO)
    assert (response.status_code, response["Content-Type"]) == (400, RESPONSE)
    assert list(response.json()) == ["errors"]
    response = await api.post(body, accept="application/json")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert response.json()["errors"]


@pytest.mark.parametrize(
    ("query", "data"),
    [
        ("mutation { add(a: 1) { status } }", {"add": {"status": "completed"}}),
        ("{ broken }", None),  # not nullable: its error nulls all of data
        ("mutation { cancelTask(id: 1) { id } }", {"cancelTask": None}),
    ],
)
async def test_an_executed_request_is_a_200(
    api: Api, configure: Configure, query: str, data: Any
) -> None:
    """With data, be it null: what a field raised concerns that field."""
    configure(backend="sync", track_in_database=False)
    response = await api.post({"query": query}, accept=APOLLO)
    assert (response.status_code, response["Content-Type"]) == (200, RESPONSE)
    assert response.json()["data"] == data


async def test_refusals_come_in_the_media_type_that_was_asked_for(api: Api) -> None:
    """A client of graphql-response+json may trust that GraphQL has answered."""
    for body in (b"{", b"[]", b'{"query": 3}'):
        response = await api.post(body, accept=APOLLO)
        assert (response.status_code, response["Content-Type"]) == (400, RESPONSE)
        response = await api.post(body, accept=EVENTS)
        assert (response.status_code, response["Content-Type"]) == (400, "application/json")


async def test_an_accident_before_any_field_is_the_servers_fault(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500, not 400: no change of the request would mend it."""

    class Broken(strawberry.extensions.SchemaExtension):
        def on_validate(self) -> Any:
            raise RuntimeError("secret: the password is hunter2")

    @strawberry.type
    class Query:
        shelves: int = 3

    schema = TaskSchema(query=Query, extensions=[Broken])
    monkeypatch.setattr("rail_async_tasks.graphql.views.get_schema", lambda: schema)
    response = await api.post(SHELVES, accept=APOLLO)
    assert (response.status_code, response["Content-Type"]) == (500, RESPONSE)
    assert b"hunter2" not in response.content
    assert "hunter2" in caplog.text


@pytest.mark.parametrize(("body", "ends"), [(SHELVES, True), (FOLLOW, False)])
async def test_a_drain_lets_one_result_end(
    api: Api, monkeypatch: pytest.MonkeyPatch, body: Any, ends: bool
) -> None:
    """A client that misses the `complete` of a mutation would send it again; a subscriber must."""
    monkeypatch.setattr(server, "is_going_away", lambda: True)
    text = await text_of(await api.post(body, accept=EVENTS))
    assert text.startswith("event: next\n")
    assert ("event: complete" in text) is ends


def test_under_wsgi_events_are_not_on_offer(configure: Configure, started: list[str]) -> None:
    """JSON is answered where it is acceptable at all; else 501, and nothing has run."""
    configure(backend="sync", track_in_database=False)

    def post(body: Any, accept: str) -> Any:
        return Client().post(
            "/graphql/", body, content_type="application/json", headers={"accept": accept}
        )

    response = post(SHELVES, "text/event-stream, application/json;q=0.1")
    assert response.json() == {"data": {"shelves": 3}}
    for body, accept in ((ADD, EVENTS), (FOLLOW, EVENTS), (FOLLOW, URQL)):
        assert post(body, accept).status_code == 501
    assert started == []


SEVERAL = {"query": "mutation A { a: add(a: 1) { status } } mutation B { b: add(a: 2) { status } }"}


async def test_one_of_several_operations_must_be_named(
    api: Api, started: list[str], configure: Configure
) -> None:
    """As JSON and as events alike nothing runs otherwise, and the answer says what to do."""
    configure(backend="sync", track_in_database=False)
    for accept in ("application/json", RESPONSE):
        response = await api.post(SEVERAL, accept=accept)
        assert response.status_code == 400
        assert "operationName must name one" in response.json()["errors"][0]["message"]
    said = await text_of(await api.post(SEVERAL, accept=EVENTS))
    assert "operationName must name one" in said
    assert started == []
    response = await api.post({**SEVERAL, "operationName": "B"})
    assert response.json()["data"] == {"b": {"status": "completed"}}
