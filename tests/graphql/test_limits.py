"""Attacks on one process, and an honest caller beside each: what is refused costs no work.

No test measures time. Each counts the work that is not done: documents that are validated, rows
that are read, tasks that are stored.
"""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from typing import Any

import pytest
import strawberry
from django.contrib.auth.models import User
from django.test import AsyncClient, AsyncRequestFactory
from django.utils import timezone
from strawberry.schema import schema as strawberry_schema
from strawberry.tools import merge_types

from rail_async_tasks import service
from rail_async_tasks.auth import open_connections
from rail_async_tasks.graphql import (
    TaskGraphQLConsumer,
    TaskGraphQLView,
    consumers,
    documents,
    limited,
)
from rail_async_tasks.graphql.frames import BURST_SECONDS, FrameRate
from rail_async_tasks.graphql.mutations import Mutation
from rail_async_tasks.graphql.queries import Query
from rail_async_tasks.graphql.subscriptions import Subscription
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.orm import reads
from rail_async_tasks.models import TaskExecution
from tests.projects import shop
from tests.support.api import Api, Configure
from tests.support.sockets import WAIT, Socket, connected

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
HONEST = {"data": {"shelves": 3}}
FOLLOW = "subscription { taskProgress(taskId: 1) { status } }"

OWN_SCHEMA = strawberry.Schema(
    query=merge_types("Query", (shop.Queries, Query)),
    mutation=merge_types("Mutation", (Mutation, shop.TaskMutations)),
    subscription=merge_types("Subscription", (Subscription, shop.Subscriptions)),
)


def aliases(size: int) -> str:
    """A document of so many bytes that asks for one task again and again."""
    field = 'a%d:task(id:"x"){id} '
    return "{" + "".join(field % number for number in range(size // len(field % 10_000))) + "}"


def bomb() -> str:
    """A fragment bomb: 2**30 fields in two KiB."""
    fragments = [
        f"fragment F{n} on TaskMutationPayload {{ task {{ id }} ...F{n + 1} ...F{n + 1} }}"
        for n in range(30)
    ]
    nested = "".join(f"fragment G{n} on Query {{ ...G{n + 1} __typename }}" for n in range(120))
    return f"{{ ...G0 ...G1 ...G2 }} {nested} {' '.join(fragments)}"


ATTACKS = {
    "225 KiB of aliases": aliases(225 * 1024),
    "0.43 MiB of aliases": aliases(440 * 1024),
    "aliases": aliases(3000),
    "root fields": "{" + " ".join(f"f{n}" for n in range(51)) + "}",
    "depth": "{ x" * 25 + "}" * 25,
    "one field again and again": "{ tasks {" + "id " * 1500 + "} }",
    "a fragment bomb": bomb(),
    "950 mutations": "mutation {" + "".join(f"m{n}:add(a:1){{status}} " for n in range(950)) + "}",
    "21 starts": "mutation {" + "".join(f"m{n}:add(a:1){{status}} " for n in range(21)) + "}",
    "21 retries": "mutation {"
    + "".join(f"m{n}:retryTask(id:1){{status}} " for n in range(21))
    + "}",
}


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The documents that are validated, which comes before each execution."""
    seen: list[Any] = []
    real = strawberry_schema.validate_document

    def validate(schema: Any, document: Any, rules: Any) -> Any:
        seen.append(document)
        return real(schema, document, rules)

    monkeypatch.setattr(strawberry_schema, "validate_document", validate)
    return seen


async def over_own_schema(query: str, accept: str = "application/json") -> Any:
    view = TaskGraphQLView.as_view(schema=OWN_SCHEMA)
    request = AsyncRequestFactory().post(
        "/", json.dumps({"query": query}), content_type="application/json",
        headers={"accept": accept},
    )  # fmt: skip
    response = await view(request)
    if not response.streaming:
        return json.loads(response.content)
    text = b"".join([chunk async for chunk in response.streaming_content]).decode()
    return json.loads(text.split("data: ", 1)[1].split("\n", 1)[0])


def codes(answer: Any) -> list[str]:
    return [error["extensions"]["code"] for error in answer["errors"]]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_complex_document_is_refused_before_it_is_validated(
    api: Api, validated: list[Any], attack: str
) -> None:
    """Over HTTP with the merged schema and a project's own, and as events; an honest one passes."""
    text = ATTACKS[attack]
    for answer in (
        await api.send(text),
        await over_own_schema(text),
        await over_own_schema(text, "text/event-stream"),
    ):
        assert codes(answer) == ["TOO_COMPLEX"]
        assert "limits[" in answer["errors"][0]["message"]
    assert validated == []
    assert await api.send("{ shelves }") == HONEST
    assert await over_own_schema("{ shelves }") == HONEST


@pytest.mark.parametrize("schema", [None, OWN_SCHEMA])
async def test_a_complex_frame_is_refused_alone(
    api: Api, validated: list[Any], schema: Any
) -> None:
    """197 KiB of aliases in a frame: its operation is an error, its socket goes on."""
    socket = Socket(
        application=None if schema is None else TaskGraphQLConsumer.as_asgi(schema=schema)
    )
    await socket.ready()
    for id_, text in (("a", aliases(197 * 1024)), ("b", ATTACKS["21 starts"])):
        await socket.subscribe(text, id_)
        answer = await socket.receive()
        assert (answer["id"], answer["type"]) == (id_, "error")
        assert answer["payload"][0]["extensions"] == {"code": "TOO_COMPLEX"}
    assert validated == []
    await socket.subscribe("{ shelves }", "c")
    assert (await socket.receive())["payload"] == HONEST
    await socket.leave()


async def test_what_is_at_its_limit_is_served(api: Api, configure: Configure) -> None:
    """And None lifts each limit."""
    twenty = "mutation {" + "".join(f"m{n}:add(a:1){{status}} " for n in range(20)) + "}"
    assert len((await api.send(twenty))["data"]) == 20
    fifty = "{" + " ".join(f"a{n}: shelves" for n in range(50)) + "}"
    assert len((await api.send(fifty))["data"]) == 50
    keys = ("tokens", "depth", "aliases", "root_fields", "starts_per_request")
    configure(backend="sync", limits=dict.fromkeys(keys))
    assert len((await api.send(ATTACKS["21 starts"]))["data"]) == 21


async def test_a_document_is_parsed_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was measured is executed, by either schema; a known text is not parsed again."""
    parsed: list[str] = []
    real = documents.parse

    def parse(text: str, **options: Any) -> Any:
        parsed.append(text)
        return real(text, **options)

    monkeypatch.setattr(documents, "parse", parse)
    monkeypatch.setattr(strawberry_schema, "parse", parse)
    for text in ("{ shelves } # once", "{ shelves } #" + "x" * documents.KEPT_EACH):
        assert await api.send(text) == HONEST
        assert await over_own_schema(text) == HONEST
    assert len(parsed) == 3  # the long one is not kept
    assert await api.send("{ shelves } # once") == HONEST
    assert len(parsed) == 3


async def test_errors_of_an_answer_are_bounded(api: Api, configure: Configure) -> None:
    """One of a hundred and one says how many are missing."""
    configure(backend="sync", limits={"aliases": None, "root_fields": None})
    text = "{" + " ".join(f'a{n}:task(id:"x"){{id}}' for n in range(150)) + "}"
    for answer in (await api.send(text), await over_own_schema(text)):
        assert len(answer["errors"]) == 101
        assert answer["errors"][-1]["message"] == "Errors that are left out: 50."


# --- bytes ----------------------------------------------------------------------------------------


async def test_a_large_request_is_refused_unread(api: Api, configure: Configure) -> None:
    """By its declared size, and where it declares none by what has been read."""
    configure(backend="sync", limits={"request_bytes": 1000})
    large = {"query": "{ shelves }", "variables": {"x": "x" * 1000}}
    response = await api.post(large)
    assert (response.status_code, codes(response.json())) == (413, ["TOO_LARGE"])
    scope_free = AsyncRequestFactory()
    for body, status in ((large, 413), ({"query": "{ shelves }"}, 200)):
        request = scope_free.post("/", json.dumps(body), content_type="application/json")
        del request.META["CONTENT_LENGTH"]
        assert (await TaskGraphQLView.as_view()(request)).status_code == status


async def test_a_refused_body_does_not_wait_for_the_collector(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django's requests are cycles: what they hold stays until the next collection."""
    text, times = ATTACKS["225 KiB of aliases"], 10
    real = limited.refusal
    sizes: list[int] = []

    def refusal(schema: Any, query: str | None) -> Any:
        sizes.append(tracemalloc.get_traced_memory()[0])
        return real(schema, query)

    monkeypatch.setattr(limited, "refusal", refusal)
    await api.send(text)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(times):
            await api.send(text)
    finally:
        tracemalloc.stop()
        gc.enable()
    # The test's client keeps the body that it has sent.
    assert sizes[-1] - sizes[1] < 1.5 * len(text) * (times - 1)


async def test_a_list_is_no_batch(api: Api) -> None:
    """Also where a project's schema takes batches: limits are of one operation per request."""
    assert (await api.post([{"query": "{ shelves }"}])).status_code == 400


async def large_results(owner: User, count: int, size: int = 250 * 1024) -> None:
    now = timezone.now()
    rows = [
        TaskExecution(
            id=new_id(), name="x", status="completed", queue="default", owner_id=str(owner.pk),
            result="x" * size, created_at=now, updated_at=now, completed_at=now,
        )
        for _ in range(count)
    ]  # fmt: skip
    await TaskExecution.objects.abulk_create(rows, batch_size=20)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each result that is read from the database."""
    seen: list[int] = []
    real = reads.snapshot_of

    def snapshot_of(row: Any) -> Any:
        snapshot = real(row)
        seen.append(len(snapshot.result or ""))
        return snapshot

    monkeypatch.setattr(reads, "snapshot_of", snapshot_of)
    return seen


@ONE_DATABASE
async def test_large_results_are_refused_before_they_are_read(
    database: object, configure: Configure, loaded: list[int]
) -> None:
    """60 results of 250 KiB: none is read, by however many lists or aliases they are asked."""
    configure()
    user = await User.objects.acreate(username="ada")
    await large_results(user, 60)
    api = Api()
    await api.client.aforce_login(user)
    answer = await api.send("{ tasks(limit: 500) { result } }")
    assert codes(answer) == ["TOO_LARGE"]
    assert 'limits["answer_bytes"]' in answer["errors"][0]["message"]
    assert loaded == []
    # Without results all are listed, and no result is read.
    assert len((await api.send("{ tasks(limit: 500) { id } }"))["data"]["tasks"]) == 60
    assert loaded == [0] * 60
    loaded.clear()
    # Together over the limit, although each is within it: nothing is read past it.
    lists = "{" + " ".join(f"l{n}: tasks(limit: 15) {{ result }}" for n in range(40)) + "}"
    assert "TOO_LARGE" in codes(await api.send(lists))
    assert sum(loaded) <= 5 * 1024 * 1024
    loaded.clear()
    more = "{ tasks(limit: 10) {" + " ".join(f"r{n}: result" for n in range(40)) + "} }"
    assert codes(await api.send(more)) == ["TOO_LARGE"]
    assert loaded == []
    # What fits is read.
    assert len((await api.send("{ tasks(limit: 10) { result } }"))["data"]["tasks"]) == 10
    configure(limits={"answer_bytes": None})
    assert len((await api.send("{ tasks(limit: 40) { result } }"))["data"]["tasks"]) == 40


async def test_an_answer_of_the_project_s_own_fields_is_bounded_too(
    api: Api, configure: Configure
) -> None:
    """Over HTTP, as events and over a socket: the client gets the code in its place."""
    configure(backend="sync", limits={"answer_bytes": 200})
    text = "{" + " ".join(f"a{n}: shelves" for n in range(40)) + "}"
    assert codes(await api.send(text)) == ["TOO_LARGE"]
    assert codes(await over_own_schema(text, "text/event-stream")) == ["TOO_LARGE"]
    async with connected() as socket:
        await socket.subscribe(text)
        assert codes((await socket.receive())["payload"]) == ["TOO_LARGE"]
        assert (await socket.receive())["type"] == "complete"
        await socket.subscribe("{ shelves }")
        assert (await socket.receive())["payload"] == HONEST


# --- sockets, frames, streams ---------------------------------------------------------------------


async def test_a_frame_s_size_is_the_setting_s(configure: Configure) -> None:
    """Close 1009 names it."""
    configure(backend="sync", limits={"frame_bytes": 200})
    socket = Socket()
    await socket.ready()
    await socket.send_text(" " * 201)
    assert await socket.closed() == 1009
    assert socket.reason == 'A message is larger than limits["frame_bytes"] allows: 200'
    await socket.leave()


async def test_too_many_frames_a_second_close_the_socket(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With words; what comes at a connection's begin is within the rate."""
    # By a clock that stands still: a slow machine would send within the rate.
    monkeypatch.setattr(consumers, "FrameRate", lambda: FrameRate(lambda: 0.0))
    configure(backend="sync", limits={"frames_per_second": 5})
    socket = Socket()
    await socket.ready()
    for _ in range(5 * BURST_SECONDS - 1):
        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}
    for _ in range(2):
        await socket.send({"type": "ping"})
    answers = [await socket.app.receive_output(WAIT)]
    while answers[-1]["type"] != "websocket.close":
        answers.append(await socket.app.receive_output(WAIT))
    assert answers[-1]["code"] == 1008
    assert answers[-1]["reason"] == 'More than 5 messages a second (limits["frames_per_second"])'
    await socket.leave()


def test_the_rate_is_of_frames_over_time() -> None:
    """A steady client is never refused; a pause makes room for a burst, no longer one for more."""
    now = [0.0]
    rate = FrameRate(lambda: now[0])
    for _ in range(1000):
        now[0] += 0.1
        assert rate.allows(10)
    now[0] += 3600
    assert [rate.allows(10) for _ in range(31)] == [True] * 30 + [False]
    assert rate.allows(None)


async def test_sockets_of_one_address_are_counted(configure: Configure) -> None:
    """One too many is closed with words; others are served, and a closed one makes room."""
    configure(backend="sync", limits={"sockets_per_address": 2})
    sockets = [Socket(scope={"client": ("1.1.1.1", port)}) for port in range(3)]
    for socket in sockets[:2]:
        await socket.ready()
    assert (await sockets[2].open())["type"] == "websocket.accept"
    assert await sockets[2].closed() == 1008
    assert sockets[2].reason.startswith("TOO_MANY: As many sockets of this address are open")
    await sockets[2].leave()
    other = Socket(scope={"client": ("2.2.2.2", 1)})
    await other.ready()
    await sockets[0].leave()
    again = Socket(scope={"client": ("1.1.1.1", 9)})
    await again.ready()
    for socket in (sockets[1], other, again):
        await socket.leave()
    assert len(open_connections.sockets_of_addresses) == 0


@ONE_DATABASE
async def test_sockets_of_one_user_are_counted(database: object, configure: Configure) -> None:
    """At the acknowledgement, where the user is known."""
    configure(backend="sync", limits={"sockets_per_user": 1})
    user = await User.objects.acreate(username="ada")
    client = AsyncClient()
    await client.aforce_login(user)
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    first, second = Socket(cookie=cookie), Socket(cookie=cookie)
    await first.ready()
    await second.open()
    await second.send({"type": "connection_init"})
    assert await second.closed() == 1008
    assert second.reason.startswith("TOO_MANY: As many sockets of this user are open")
    await second.leave()
    await first.leave()
    assert len(open_connections.sockets_of_users) == 0


async def test_300_event_streams_of_one_caller(
    api: Api, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the limit 429, before a subscription is made; the caller's queries are answered."""
    followed: list[str] = []

    async def watch(viewer: Any, task_id: str) -> Any:
        followed.append(task_id)
        await asyncio.Event().wait()
        yield

    configure(backend="sync", limits={"streams_per_user": 3})
    monkeypatch.setattr(service, "watch", watch)
    view, factory = TaskGraphQLView.as_view(), AsyncRequestFactory()
    responses = []
    for _ in range(300):
        request = factory.post(
            "/", json.dumps({"query": FOLLOW}), content_type="application/json",
            headers={"accept": "text/event-stream"},
        )  # fmt: skip
        responses.append(await view(request))
    assert [it.status_code for it in responses] == [200] * 3 + [429] * 297
    refused = responses[-1]
    assert codes(json.loads(refused.content)) == ["TOO_MANY"]
    assert int(refused["Retry-After"]) > 0
    assert len(followed) <= 3
    assert await api.send("{ shelves }") == HONEST
    del responses, request
    gc.collect()
    assert len(open_connections.streams) == 0
