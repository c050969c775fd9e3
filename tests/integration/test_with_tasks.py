"""`with_tasks`: the runtime around an ASGI application of the project's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application as get_django_application
from django.core.wsgi import get_wsgi_application
from django.urls import path
from strawberry.channels import GraphQLProtocolTypeRouter

from rail_async_tasks import asgi
from rail_async_tasks.asgi import get_asgi_application, with_tasks
from rail_async_tasks.graphql.schema import get_schema
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.servers import lifespan as lifespans
from tests.support.runtimes import Configure, in_memory
from tests.support.waiting import TIMEOUT

pytestmark = in_memory

HTTP = {
    "type": "http", "method": "GET", "path": "/tasks/health/live", "query_string": b"",
    "headers": [(b"host", b"testserver")],
}  # fmt: skip


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is a server's, but the test runner keeps its signals."""
    monkeypatch.setattr(server, "chain_signals", lambda react: None)
    yield
    server.reset()


class Framework:
    """An application with a lifespan of its own, such as Starlette's."""

    def __init__(self, *, fails: str = "", hears: list[str] | None = None) -> None:
        self._fails = fails
        self.heard: list[str] = [] if hears is None else hears
        self.asked: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            self.asked.append(scope)
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        assert (await receive())["type"] == "lifespan.startup"
        if self._fails == "startup":
            await send({"type": "lifespan.startup.failed", "message": "no connection"})
            raise ConnectionError("no connection")
        self.heard.append(f"opens, runtime {host.current() is not None}")
        scope["state"]["client"] = "a client"
        await send({"type": "lifespan.startup.complete"})
        if self._fails == "life":
            raise ConnectionError("lost")
        assert (await receive())["type"] == "lifespan.shutdown"
        self.heard.append(f"closes, runtime {host.current() is not None}")
        if self._fails == "shutdown":
            raise ConnectionError("no good bye")
        await send({"type": "lifespan.shutdown.complete"})


async def lifespan(application: Any) -> ApplicationCommunicator:
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    communicator = ApplicationCommunicator(application, scope)
    communicator.state = scope["state"]
    await communicator.send_input({"type": "lifespan.startup"})
    return communicator


async def lives(application: Any) -> list[str]:
    """The application's answers to a server's start and end; the runtime lives in between."""
    communicator = await lifespan(application)
    answers = [(await communicator.receive_output(TIMEOUT))["type"]]
    runtime = host.current()
    assert runtime is not None
    assert runtime.state.under_server
    await communicator.send_input({"type": "lifespan.shutdown"})
    answers.append((await communicator.receive_output(TIMEOUT))["type"])
    await communicator.wait(TIMEOUT)
    assert not runtime.alive
    return answers


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Does nothing at lifespan."""


async def asks_first(scope: Any, receive: Any, send: Any) -> None:
    """Takes the server's message before it finds that it knows no lifespan."""
    await receive()
    raise ValueError(scope["type"])


def graphql_router() -> Any:
    return GraphQLProtocolTypeRouter(get_schema(), django_application=get_django_application())


APPLICATIONS = {
    "Django": get_django_application,
    "a router without lifespan": lambda: ProtocolTypeRouter({"http": get_django_application()}),
    "a router with our lifespan": lambda: ProtocolTypeRouter({"lifespan": asgi.lifespan}),
    "Strawberry's router": graphql_router,
    "silent": lambda: silent,
    "asks first": lambda: asks_first,
    "a framework": Framework,
    "ours": get_asgi_application,
    "itself": lambda: with_tasks(get_django_application()),
    "ours in a router": lambda: ProtocolTypeRouter({"lifespan": get_asgi_application()}),
}
BOTH = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.usefixtures("served", "ends_cleanly")
@pytest.mark.parametrize("make", APPLICATIONS.values(), ids=APPLICATIONS)
async def test_the_runtime_lives_around_any_application(
    configure: Configure, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the server's start to its end, started once."""
    starts: list[None] = []
    startup = server.startup

    async def counted() -> None:
        starts.append(None)
        await startup()

    monkeypatch.setattr(server, "startup", counted)
    assert await lives(with_tasks(make())) == BOTH
    assert len(starts) == 1


@pytest.mark.usefixtures("served", "ends_cleanly")
async def test_the_own_lifespan_is_around_the_runtime(configure: Configure) -> None:
    """What it opens is there as long as tasks run; requests see its state."""
    framework = Framework()
    application = with_tasks(framework)
    assert await lives(application) == BOTH
    assert framework.heard == ["opens, runtime False", "closes, runtime False"]
    communicator = await lifespan(application)
    await communicator.receive_output(TIMEOUT)
    assert communicator.state == {"client": "a client"}
    await communicator.send_input({"type": "lifespan.shutdown"})
    await communicator.wait(TIMEOUT)


@pytest.mark.usefixtures("served", "ends_cleanly")
async def test_the_lifespan_of_an_http_application_runs_too(configure: Configure) -> None:
    """`get_asgi_application(http=…)`; requests go there, GraphQL's sockets stay ours."""
    framework = Framework()
    application = get_asgi_application(http=framework)
    assert await lives(application) == BOTH
    assert len(framework.heard) == 2
    http = ApplicationCommunicator(application, dict(HTTP))
    assert (await http.receive_output(TIMEOUT))["status"] == 204
    await http.wait(TIMEOUT)
    assert [it["path"] for it in framework.asked] == ["/tasks/health/live"]


@pytest.mark.usefixtures("served", "ends_cleanly")
async def test_a_start_that_fails_is_passed_on(configure: Configure) -> None:
    """The server hears the application's own words; no runtime starts."""
    communicator = await lifespan(with_tasks(Framework(fails="startup")))
    answer = await communicator.receive_output(TIMEOUT)
    assert answer == {"type": "lifespan.startup.failed", "message": "no connection"}
    with pytest.raises(ConnectionError):
        await communicator.wait(TIMEOUT)
    assert host.current() is None


@pytest.mark.usefixtures("served")
async def test_a_runtime_that_cannot_start_lets_the_application_close(
    configure: Configure,
) -> None:
    """Then the server hears why."""
    configure(max_workers="four")
    framework = Framework()
    communicator = await lifespan(with_tasks(framework))
    answer = await communicator.receive_output(TIMEOUT)
    assert answer["type"] == "lifespan.startup.failed"
    assert "max_workers" in answer["message"]
    assert framework.heard == ["opens, runtime False", "closes, runtime False"]
    await communicator.wait(TIMEOUT)


@pytest.mark.usefixtures("served", "ends_cleanly")
@pytest.mark.parametrize("fails", ["life", "shutdown"])
async def test_an_application_that_breaks_takes_no_task_with_it(
    configure: Configure, fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The runtime goes on, and drains; the server hears of it at the end."""
    assert await lives(with_tasks(Framework(fails=fails))) == [
        "lifespan.startup.complete", "lifespan.shutdown.failed",
    ]  # fmt: skip
    assert "lifespan of the application inside broke" in caplog.text


@pytest.mark.parametrize(
    ("application", "remedy"),
    [
        (get_django_application, "call it"),
        (get_asgi_application, "call it"),
        (get_wsgi_application(), "WSGI"),
        ("root.asgi.application", "scope, receive and send"),
        (None, "scope, receive and send"),
    ],
    ids=["a function of Django's", "ours", "WSGI", "a path", "nothing"],
)
def test_what_is_no_application(store: str, application: Any, remedy: str) -> None:
    with pytest.raises(TypeError, match=remedy):
        with_tasks(application)


# --- streams -------------------------------------------------------------------------------------


class Chat(AsyncWebsocketConsumer):
    """A socket of the project's own."""

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await self.send(text_data)


def a_socket(application: Any, place: str) -> ApplicationCommunicator:
    scope = {
        "type": "websocket", "path": place, "query_string": b"", "subprotocols": [],
        "headers": [(b"host", b"testserver")],
    }  # fmt: skip
    return ApplicationCommunicator(application, scope)


OWN_SOCKETS = {
    "with_tasks": lambda: with_tasks(
        ProtocolTypeRouter({"websocket": URLRouter([path("chat/", Chat.as_asgi())])})
    ),
    "a route": lambda: get_asgi_application(websocket=[path("chat/", Chat.as_asgi())]),
}


@pytest.mark.usefixtures("served", "ends_cleanly")
@pytest.mark.parametrize("make", OWN_SOCKETS.values(), ids=OWN_SOCKETS)
async def test_a_drain_closes_other_sockets_too(configure: Configure, make: Any) -> None:
    """With 1012, once, and nothing follows."""
    application = make()
    socket = a_socket(application, "/chat/")
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output(TIMEOUT))["type"] == "websocket.accept"
    await socket.send_input({"type": "websocket.receive", "text": "hello"})
    assert (await socket.receive_output(TIMEOUT))["text"] == "hello"
    await server.end_streams()
    await server.end_streams()
    closed = await socket.receive_output(TIMEOUT)
    assert (closed["type"], closed["code"]) == ("websocket.close", 1012)
    await socket.send_input({"type": "websocket.receive", "text": "too late"})
    assert await socket.receive_nothing()
    await socket.send_input({"type": "websocket.disconnect", "code": 1012})
    await socket.wait(TIMEOUT)


@pytest.mark.usefixtures("served", "ends_cleanly")
@pytest.mark.parametrize("ends", ["drains", "goes on"])
async def test_a_drain_takes_the_farewell_out_of_other_streams(
    configure: Configure, ends: str
) -> None:
    """`complete` would mean that the task's updates are over; all else passes."""
    farewell = b"event: complete\r\ndata: \r\n\r\n"
    other = b"event: complete\ndata: an event of another application\n\n"

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for body in (b"event: next\n\n", farewell, other):
            await send({"type": "http.response.body", "body": body, "more_body": True})

    application = with_tasks(streams)
    if ends == "drains":
        await server.end_streams()
    http = ApplicationCommunicator(application, dict(HTTP))
    await http.receive_output(TIMEOUT)
    bodies = [(await http.receive_output(TIMEOUT))["body"] for _ in range(3)]
    assert bodies == [b"event: next\n\n", b"" if ends == "drains" else farewell, other]
    await http.wait(TIMEOUT)


# --- under a server without lifespan -------------------------------------------------------------


@pytest.mark.usefixtures("served", "ends_cleanly")
async def test_lifespan_is_spoken_to_it_where_the_server_does_not(configure: Configure) -> None:
    """As daphne's reactor has it done."""
    framework = Framework()
    application = with_tasks(framework)
    client = lifespans.LifespanClient(application)
    await client.startup()
    assert client.state == {"client": "a client"}
    assert host.current() is not None
    await client.shutdown()
    assert framework.heard == ["opens, runtime False", "closes, runtime False"]
    for fails in ("startup", "shutdown"):
        client = lifespans.LifespanClient(with_tasks(Framework(fails=fails)))
        if fails == "shutdown":
            await client.startup()
        with pytest.raises(lifespans.LifespanFailed, match=r"no connection|no good bye"):
            await (client.startup() if fails == "startup" else client.shutdown())


@pytest.mark.usefixtures("served", "ends_cleanly")
async def test_what_the_own_end_enqueues_is_kept(configure: Configure) -> None:
    """No runtime that starts then outlives the server."""
    from rail_async_tasks import task

    @task(name="t.late_in_lifespan")
    async def late() -> None: ...

    async def enqueues_last(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await late.aenqueue()
        await send({"type": "lifespan.shutdown.complete"})

    assert await lives(with_tasks(enqueues_last)) == BOTH
    assert host.current() is None
    await asyncio.sleep(0)
