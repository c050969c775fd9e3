"""GraphQL over WebSocket, in process: the protocol, broken clients, and ends of every kind."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client

from rail_async_tasks import service
from rail_async_tasks.asgi import get_asgi_application
from rail_async_tasks.graphql import consumers, frames
from rail_async_tasks.graphql.consumers import TaskGraphQLConsumer
from rail_async_tasks.ids import new_id
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.api import Configure
from tests.support.clock import FakeClock
from tests.support.sockets import WAIT, Socket, connected
from tests.support.waiting import eventually

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
FOLLOW = "subscription { taskProgress(taskId: 1) { status } }"


@pytest.fixture(autouse=True)
def shop(configure: Configure) -> None:
    configure(backend="sync")


@pytest.fixture(autouse=True)
async def nothing_left_running() -> AsyncIterator[None]:
    """No test may leave a task behind: each is a client's connection."""
    yield

    def left() -> list[Any]:
        # The plugin runs fixtures and tests in tasks of its own.
        return [task for task in asyncio.all_tasks() if "TestRunner" not in repr(task)]

    await eventually(lambda: not left(), left)


class Watched:
    """Stands in for `service.watch`: yields what it is given, and knows when it is left."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        self.more = asyncio.Event()

    async def __call__(self, viewer: Any, task_id: Any) -> AsyncIterator[TaskSnapshot]:
        now = datetime.now(UTC)
        self.begun.set()
        try:
            yield TaskSnapshot(
                id=new_id(), name="t", status="running", queue="q", created_at=now, updated_at=now
            )
            await self.more.wait()
        finally:
            self.left.set()


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    fake = Watched()
    monkeypatch.setattr(service, "watch", fake)
    return fake


# --- the protocol ---------------------------------------------------------------------------------


async def test_queries_mutations_and_pings_over_one_socket() -> None:
    """Every kind of operation is answered, and so is a ping."""
    async with connected() as socket:
        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}
        await socket.subscribe("{ shelves }", "a")
        assert await socket.receive() == {
            "id": "a",
            "type": "next",
            "payload": {"data": {"shelves": 3}},
        }
        assert await socket.receive() == {"id": "a", "type": "complete"}


async def test_a_subscription_streams_and_completes(watched: Watched) -> None:
    """`next` for each event, `complete` when it is over."""
    async with connected() as socket:
        await socket.subscribe(FOLLOW)
        answer = await socket.receive()
        assert answer["payload"]["data"] == {"taskProgress": {"status": "running"}}
        watched.more.set()
        assert await socket.receive() == {"id": "1", "type": "complete"}
        assert watched.left.is_set()


async def test_a_query_that_cannot_be_parsed_ends_its_operation_alone(watched: Watched) -> None:
    """The socket and what else runs on it go on."""
    async with connected() as socket:
        await socket.subscribe(FOLLOW, "good")
        await socket.receive()
        for query in ("{", "{ nothing }", "{" * 500):
            await socket.subscribe(query, "bad")
            answer = await socket.receive()
            assert (answer["id"], answer["type"]) == ("bad", "error")
            assert answer["payload"][0]["message"]
        watched.more.set()
        assert await socket.receive() == {"id": "good", "type": "complete"}


async def test_a_null_payload_is_none() -> None:
    """Clients send `null` where they have no connection parameters."""
    socket = Socket()
    await socket.open()
    await socket.send({"type": "connection_init", "payload": None})
    assert await socket.receive() == {"type": "connection_ack"}
    await socket.leave()


@ONE_DATABASE
async def test_the_caller_is_the_sessions_user(database: object) -> None:
    """The cookie of the handshake says whose tasks they are; without one they are anonymous."""
    client = Client()
    ada = await User.objects.acreate(username="ada")
    await sync_to_async(client.force_login)(ada)
    cookie = f"{django_settings.SESSION_COOKIE_NAME}={client.cookies['sessionid'].value}"
    query = "mutation { whoami { task { result ownerId } } }"
    async with connected(cookie=cookie) as socket:
        await socket.subscribe(query)
        task = (await socket.receive())["payload"]["data"]["whoami"]["task"]
        assert (task["result"]["user"], task["ownerId"]) == ("ada", str(ada.pk))
    async with connected(cookie="sessionid=stolen") as socket:
        await socket.subscribe(query)
        task = (await socket.receive())["payload"]["data"]["whoami"]["task"]
        assert (task["result"]["user"], task["ownerId"]) == ("", None)


@ONE_DATABASE
async def test_permissions_see_the_same_request_as_over_http(database: object) -> None:
    """`info.context.request.user` works over every transport."""
    async with connected() as socket:
        await socket.subscribe("mutation { restock(amount: 1) { status } }")
        assert (await socket.receive())["payload"]["errors"][0]["message"] == "Staff only."


# --- broken and hostile clients -------------------------------------------------------------------

SUBSCRIBE = {"type": "subscribe", "id": "1", "payload": {"query": "{ shelves }"}}
BROKEN = [
    "[]",
    "1",
    "null",
    "true",
    '"text"',
    "",
    "{",
    "{}",
    "\x00",
    "[" * 100_000,
    '{"type": 1}',
    '{"type": []}',
    '{"type": {}}',
    '{"type": null}',
    '{"type": "start"}',
    '{"type": "\\ud800"}',
    json.dumps({"type": "x" * 10_000}),
    json.dumps({"type": "é" * 500}),
    *(
        json.dumps({**SUBSCRIBE, **change})
        for change in (
            {"id": []},
            {"id": {}},
            {"id": None},
            {"id": 1},
            {"id": ""},
            {"payload": None},
            {"payload": []},
            {"payload": "x"},
            {"payload": {}},
            {"payload": {"query": None}},
            {"payload": {"query": ["{ shelves }"]}},
            {"payload": {"query": "{ shelves }", "variables": []}},
            {"payload": {"query": "{ shelves }", "variables": 1}},
            {"payload": {"query": "{ shelves }", "operationName": {}}},
            {"payload": {"query": "{ shelves }", "extensions": "x"}},
        )
    ),
    json.dumps({"type": "subscribe"}),
    json.dumps({"type": "complete"}),
    json.dumps({"type": "complete", "id": []}),
    json.dumps({"type": "ping", "payload": 1}),
    json.dumps({"type": "connection_init", "payload": []}),
]


@pytest.mark.covering("frame", "initialised")
@pytest.mark.parametrize("frame", BROKEN, ids=[repr(it[:50]) for it in BROKEN])
@pytest.mark.parametrize("initialised", [True, False])
async def test_a_malformed_frame_closes_the_socket(frame: str, initialised: bool) -> None:
    """4400, before and after the connection is initialised, and whatever follows is dropped."""
    socket = Socket()
    if initialised:
        await socket.ready()
    else:
        await socket.open()
    await socket.send_text(frame)
    assert await socket.closed() == 4400
    assert len(socket.reason.encode()) <= 123
    await socket.send_text(frame)
    await socket.send(SUBSCRIBE)
    await socket.leave(4400)
    assert socket.app.output_queue.empty()


async def test_a_binary_frame_closes_the_socket() -> None:
    """The protocol is text."""
    socket = Socket()
    await socket.open()
    await socket.app.send_input({"type": "websocket.receive", "bytes": b"{}"})
    assert await socket.closed() == 4400
    await socket.leave()


async def test_an_oversized_frame_closes_the_socket() -> None:
    """1009 past the limit, counted in bytes; up to it a frame is served."""
    socket = Socket()
    await socket.ready()
    most = 256 * 1024
    payload = {"query": "{ shelves }", "variables": {"x": "#"}}
    frame = json.dumps({"type": "subscribe", "id": "1", "payload": payload})
    await socket.send_text(frame.replace("#", "#" * (most - len(frame) + 1)))
    assert (await socket.receive())["payload"] == {"data": {"shelves": 3}}
    await socket.receive()
    await socket.send_text("é" * (most // 2 + 1))
    assert await socket.closed() == 1009
    await socket.leave()


@pytest.mark.parametrize(
    ("frame", "fits"),
    [("{}", frames.MAX_WAITING_FRAMES), ("x" * 200 * 1024, 5)],
    ids=["many", "large"],
)
async def test_a_flood_closes_the_socket(
    monkeypatch: pytest.MonkeyPatch, frame: str, fits: int
) -> None:
    """Frames that wait for a busy handler are bounded, in number and in bytes: past it 1008."""
    busy, free = asyncio.Event(), asyncio.Event()

    async def handle_message(self: Any, message: Any) -> None:
        busy.set()
        await free.wait()

    monkeypatch.setattr(frames.TransportHandler, "handle_message", handle_message)
    socket = Socket()
    await socket.open()
    await socket.send_text("{}")
    await busy.wait()
    for _ in range(fits):
        await socket.send_text(frame)
    assert await socket.is_silent()
    await socket.send_text(frame)
    assert await socket.closed() == 1008
    free.set()
    await socket.leave()


async def test_who_does_not_initialise_is_closed(clock: FakeClock) -> None:
    """In its time, also where pings come; 4408."""
    socket = Socket()
    await socket.open()
    await clock.advance(9)
    await socket.send({"type": "ping"})
    assert await socket.receive() == {"type": "pong"}
    assert await socket.is_silent()
    await clock.advance(2)
    assert await socket.closed() == 4408
    await socket.leave()


async def test_ten_seconds_are_the_time_to_initialise() -> None:
    """The default."""
    assert TaskGraphQLConsumer().connection_init_wait_timeout == timedelta(seconds=10)


@pytest.mark.parametrize("protocols", [(), ("graphql-ws",), ("chat",)])
async def test_other_protocols_are_not_spoken(protocols: tuple[str, ...]) -> None:
    """Above all not the old one, which lets sockets stay open without a word."""
    socket = Socket(protocols)
    assert (await socket.open())["type"] == "websocket.accept"
    assert await socket.closed() == 4406
    await socket.leave()


async def test_subscribing_before_the_acknowledgement_is_refused() -> None:
    """4401, as the protocol has it."""
    socket = Socket()
    await socket.open()
    await socket.send(SUBSCRIBE)
    assert await socket.closed() == 4401
    await socket.leave()


# --- limits ---------------------------------------------------------------------------------------

TOO_MANY = {
    "message": "This socket has 2 subscriptions at once, as many as "
    'limits["subscriptions_per_socket"] allows: end one, or open another socket.',
    "extensions": {"code": "TOO_MANY"},
}


async def test_one_subscription_too_many_is_refused_alone(
    configure: Configure, watched: Watched
) -> None:
    """The refusal has a code and names the limit; the socket and its subscriptions go on."""
    configure(backend="sync", limits={"subscriptions_per_socket": 2})
    async with connected() as socket:
        for id_ in ("a", "b"):
            await socket.subscribe(FOLLOW, id_)
            assert (await socket.receive())["type"] == "next"
        await socket.subscribe(FOLLOW, "c")
        assert await socket.receive() == {"id": "c", "type": "error", "payload": [TOO_MANY]}
        await socket.subscribe("{ shelves }", "d")
        assert (await socket.receive())["payload"] == {"data": {"shelves": 3}}
        assert await socket.receive() == {"id": "d", "type": "complete"}
        watched.more.set()
        assert {(await socket.receive())["id"] for _ in "ab"} == {"a", "b"}


async def test_a_second_operation_hides_no_subscription_from_the_limit(
    configure: Configure, watched: Watched
) -> None:
    """A document with several operations runs the one that is named, and none without a name."""
    configure(backend="sync", limits={"subscriptions_per_socket": 1})
    several = f"{FOLLOW.replace('subscription', 'subscription S', 1)} query Q {{ shelves }}"
    async with connected() as socket:
        await socket.subscribe(several, "a")
        refused = await socket.receive()
        assert (refused["id"], refused["type"]) == ("a", "error")
        assert "operationName must name one" in refused["payload"][0]["message"]
        await socket.subscribe(FOLLOW, "b")
        assert (await socket.receive())["type"] == "next"
        await socket.subscribe(FOLLOW, "c")
        assert await socket.receive() | {"payload": None} == {
            "id": "c", "type": "error", "payload": None,
        }  # fmt: skip


async def test_an_ended_subscription_makes_room(configure: Configure, watched: Watched) -> None:
    """By the client's `complete`, also where its id is used again by a query."""
    configure(backend="sync", limits={"subscriptions_per_socket": 1})
    async with connected() as socket:
        for _ in range(3):
            await socket.subscribe(FOLLOW, "a")
            assert (await socket.receive())["type"] == "next"
            await socket.send({"type": "complete", "id": "a"})
            await socket.subscribe("{ shelves }", "a")
            assert (await socket.receive())["payload"] == {"data": {"shelves": 3}}
            assert await socket.receive() == {"id": "a", "type": "complete"}
        await socket.subscribe(FOLLOW, "b")
        assert (await socket.receive())["type"] == "next"


async def test_queries_have_the_same_limit_apart(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    """A socket holds no endless number of them; those that run take no room of subscriptions."""
    running, done = asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **kwargs: Any) -> list[TaskSnapshot]:
        running.set()
        await done.wait()
        return []

    configure(backend="sync", limits={"subscriptions_per_socket": 1})
    monkeypatch.setattr(service, "alist", slow)
    async with connected() as socket:
        await socket.subscribe("{ tasks { id } }", "a")
        await running.wait()
        await socket.subscribe("{ shelves }", "b")
        answer = await socket.receive()
        assert (answer["id"], answer["type"]) == ("b", "error")
        assert answer["payload"][0]["extensions"] == {"code": "TOO_MANY"}
        await socket.subscribe(FOLLOW, "c")
        assert (await socket.receive())["id"] == "c"
        done.set()
        assert (await socket.receive())["payload"] == {"data": {"tasks": []}}


@pytest.mark.parametrize(("limits", "most"), [({}, 100), ({"subscriptions_per_socket": None}, 101)])
async def test_a_hundred_subscriptions_are_the_default(
    configure: Configure, watched: Watched, limits: Any, most: int
) -> None:
    """None lifts the limit."""
    configure(backend="sync", limits=limits)
    async with connected() as socket:
        kinds = []
        for number in range(101):
            await socket.subscribe(FOLLOW, str(number))
            kinds.append((await socket.receive())["type"])
        assert kinds == ["next"] * most + ["error"] * (101 - most)


# --- ends -----------------------------------------------------------------------------------------


async def test_unsubscribing_ends_the_stream_and_frees_the_id(watched: Watched) -> None:
    """`complete` from the client stops the work at once."""
    async with connected() as socket:
        await socket.subscribe(FOLLOW)
        await socket.receive()
        await socket.send({"type": "complete", "id": "1"})
        await asyncio.wait_for(watched.left.wait(), WAIT)
        await socket.subscribe("{ shelves }")
        assert (await socket.receive())["payload"] == {"data": {"shelves": 3}}


async def test_a_client_that_leaves_ends_its_streams(watched: Watched) -> None:
    """All clean-up has run when the application returns to the server."""
    async with connected() as socket:
        await socket.subscribe(FOLLOW)
        await socket.receive()
    assert watched.left.is_set()


async def test_a_server_that_cancels_the_connection_ends_its_streams(watched: Watched) -> None:
    """No disconnect arrives; the clean-up runs all the same."""
    socket = Socket()
    await socket.ready()
    await socket.subscribe(FOLLOW)
    await socket.receive()
    socket.app.future.cancel()
    await asyncio.wait_for(watched.left.wait(), WAIT)


async def test_a_client_may_leave_before_it_is_accepted() -> None:
    """A handshake that is given up leaves nothing behind."""
    socket = Socket()
    await socket.app.send_input({"type": "websocket.connect"})
    await socket.app.send_input({"type": "websocket.disconnect", "code": 1006})
    await socket.app.wait(WAIT)


async def test_a_handler_that_dies_takes_the_socket_along(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """1011 and an entry in the log, not a socket that is no longer read."""

    async def die(self: Any, message: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(frames.TransportHandler, "handle_message", die)
    socket = Socket()
    await socket.open()
    await socket.send({"type": "connection_init"})
    assert await socket.closed() == 1011
    assert "The handler of a WebSocket died." in caplog.text
    await socket.leave()


async def test_a_handler_that_does_not_end_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    """Clean-up has a limit, so that a server can stop."""

    busy = asyncio.Event()

    async def stuck(self: Any, message: Any) -> None:
        busy.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(consumers, "CLEAN_UP_SECONDS", 0.05)
    monkeypatch.setattr(frames.TransportHandler, "handle_message", stuck)
    socket = Socket()
    await socket.open()
    await socket.send({"type": "ping"})
    await busy.wait()
    await socket.leave()


async def test_a_restart_closes_without_completing(
    monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    """1012 makes the client come back; `complete` would mean that its task is over."""
    open_: list[TaskGraphQLConsumer] = []
    connect = TaskGraphQLConsumer.connect

    async def remember(self: TaskGraphQLConsumer) -> None:
        open_.append(self)
        await connect(self)

    monkeypatch.setattr(TaskGraphQLConsumer, "connect", remember)
    socket = Socket()
    await socket.ready()
    await socket.subscribe(FOLLOW)
    await socket.receive()
    await open_[0].close_for_restart()
    watched.more.set()
    assert await socket.closed() == 1012
    await socket.leave()
    assert socket.app.output_queue.empty()
    assert watched.left.is_set()


@pytest.mark.parametrize("when", ["acknowledging", "streaming"])
async def test_a_client_that_leaves_in_the_middle_of_a_message_is_no_accident(
    watched: Watched, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """The server's exception is then not logged as an error."""
    gone = "connection_ack" if when == "acknowledging" else "next"
    failed = asyncio.Event()
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    inbox.put_nowait({"type": "websocket.connect"})
    for frame in ({"type": "connection_init"}, {**SUBSCRIBE, "payload": {"query": FOLLOW}}):
        inbox.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    async def send(message: Any) -> None:
        if gone in message.get("text", ""):
            failed.set()
            raise OSError("the client is gone")

    app = asyncio.ensure_future(get_asgi_application()(Socket().app.scope, inbox.get, send))
    await asyncio.wait_for(failed.wait(), WAIT)
    inbox.put_nowait({"type": "websocket.disconnect", "code": 1006})
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(app, WAIT)
    assert caplog.records == []


# --- refused handshakes ---------------------------------------------------------------------------


async def test_a_foreign_page_is_refused_before_it_is_accepted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says how to let it in."""
    socket = Socket(host="localhost", origin="https://evil.example")
    assert await socket.open() == {"type": "websocket.close"}
    assert "CSRF_TRUSTED_ORIGINS" in caplog.text
    await socket.leave()


REFUSED: dict[str, tuple[dict[str, Any], Any, str]] = {
    # What opens the socket, the first frame, a part of the log line.
    "host": ({"host": "evil.example"}, None, "Invalid HTTP_HOST header"),
    "origin": ({"host": "localhost", "origin": "https://evil.example"}, None, "evil.example"),
    "protocol": ({"protocols": ("graphql-ws",)}, None, "['graphql-ws']"),
    "credential": (
        {}, {"type": "connection_init", "payload": {"authorization": "Bearer hunter2"}},
        "its credential is bad",
    ),
    "first frame": ({}, SUBSCRIBE, "'Unauthorized' (close code 4401)"),
    "no JSON": ({}, "{", "close code 4400"),
    "line break": ({}, {"type": "a\nb"}, r"a\nb"),
    "silence": ({}, {"type": "ping"}, "timeout' (close code 4408)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_every_refused_handshake_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    """One WARNING on one line, with the reason and without the credential."""
    if case == "silence":
        monkeypatch.setattr(consumers, "INIT_TIMEOUT", timedelta(milliseconds=50))
    opening, frame, reason = REFUSED[case]
    socket = Socket(**opening)
    answer = await socket.open()
    if answer["type"] == "websocket.accept":
        if frame is not None:
            await (socket.send_text(frame) if isinstance(frame, str) else socket.send(frame))
        while answer["type"] != "websocket.close":
            answer = await socket.app.receive_output(WAIT)
    await socket.leave()
    [record] = [it for it in caplog.records if it.name == "rail_async_tasks.graphql"]
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert text.startswith("WebSocket refused: ")
    assert reason in text
    assert "\n" not in text
    assert "hunter2" not in caplog.text


async def test_no_other_end_of_a_socket_is_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a client that leaves early, nor one that is sent elsewhere, nor a later close."""
    early, served, waiting = Socket(), Socket(), Socket()
    await early.open()
    await early.leave()
    await served.ready()
    await served.send_text("{")
    assert await served.closed() == 4400
    await served.leave()
    await waiting.open()
    await consumers.close_all_for_restart()
    assert await waiting.closed() == 1012
    await waiting.leave()
    assert "WebSocket refused" not in caplog.text


async def test_a_broken_schema_refuses_sockets(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """With the reason in the log."""
    settings.RAIL_DJANGO_GRAPHQL = {"schema_settings": {"query_extensions": ["nowhere.Type"]}}
    socket = Socket()
    assert await socket.open() == {"type": "websocket.close"}
    assert "nowhere.Type" in caplog.text
    await socket.leave()
