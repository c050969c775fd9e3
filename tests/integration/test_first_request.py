"""A server that sends no lifespan: the first request of any kind starts the runtime."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application as get_django_application
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started
from django.test import AsyncClient, Client, RequestFactory

from rail_async_tasks import asgi
from rail_async_tasks.graphql.consumers import TaskGraphQLConsumer
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.servers import first_request
from tests.support.runtimes import Configure, in_memory
from tests.support.waiting import TIMEOUT, eventually

pytestmark = in_memory

HTTP = {
    "type": "http", "method": "GET", "path": "/nowhere/", "query_string": b"",
    "headers": [(b"host", b"testserver")],
}  # fmt: skip
SOCKET = {
    "type": "websocket", "path": "/graphql/", "query_string": b"", "headers": [],
    "subprotocols": ["graphql-transport-ws"],
}  # fmt: skip


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is a server's, not a test runner's, and no request has reached it."""
    monkeypatch.setattr(first_request, "_under_test", lambda: False)
    # The test runner keeps its signals.
    monkeypatch.setattr(server, "chain_signals", lambda react: None)
    first_request.expect()
    yield
    first_request.expect()
    server.reset()


async def ask(application: Any, scope: dict[str, Any]) -> None:
    """Sends a request, has the answer, and goes away."""
    client = ApplicationCommunicator(application, dict(scope))
    http = scope["type"] == "http"
    await client.send_input({"type": "http.request" if http else "websocket.connect"})
    await client.receive_output(TIMEOUT)
    if not http:
        await client.send_input({"type": "websocket.disconnect", "code": 1000})
    await client.wait(TIMEOUT)


Touch = Callable[[], Awaitable[None]]


async def a_page_of_ours() -> None:
    await ask(asgi.get_asgi_application(), HTTP)


async def a_page_of_django() -> None:
    await ask(get_django_application(), HTTP)


async def a_socket_of_ours() -> None:
    await ask(asgi.get_asgi_application(), SOCKET)


async def a_socket_that_is_refused() -> None:
    await ask(asgi.get_asgi_application(), {**SOCKET, "path": "/elsewhere/"})


async def a_socket_of_a_router() -> None:
    """The consumer in a routing of the project's own."""
    await ask(TaskGraphQLConsumer.as_asgi(), SOCKET)


@pytest.mark.usefixtures("served", "ends_cleanly")
@pytest.mark.parametrize(
    "touch",
    [
        a_page_of_ours, a_page_of_django, a_socket_of_ours, a_socket_that_is_refused,
        a_socket_of_a_router,
    ],
)  # fmt: skip
async def test_it_starts_the_runtime(touch: Touch, caplog: pytest.LogCaptureFixture) -> None:
    """In the server's loop, once; the log has the remedy."""
    with caplog.at_level(logging.WARNING, "rail_async_tasks.servers"):
        await touch()
        await touch()
    runtime = host.current()
    assert runtime is not None
    assert server.lives_here()
    assert not runtime.state.under_server  # what its loop's end cuts off has not taken it down
    [warning] = [it for it in caplog.records if it.name == "rail_async_tasks.servers"]
    assert "rail_async_tasks.asgi.get_asgi_application()" in warning.getMessage()


@pytest.mark.usefixtures("served", "ends_cleanly")
async def test_ready_says_it() -> None:
    """The answer is 200, for tasks run, with a warning."""
    await first_request.arrived()
    answer = (await AsyncClient().get("/tasks/health/ready")).json()
    assert answer["status"] == "ok"
    assert "lifespan" in answer["warnings"]["lifespan"]


@pytest.mark.usefixtures("served", "ends_cleanly")
@pytest.mark.parametrize("settings", [{"enabled": False}, {"backend": "sync"}], ids=str)
async def test_where_nothing_runs_nothing_starts(
    configure: Configure, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a runtime there is nothing to warn of."""
    configure(**settings)
    await a_page_of_ours()
    assert host.hosted() is None
    assert [it for it in caplog.records if it.name.startswith("rail_async_tasks")] == []


@pytest.mark.usefixtures("served", "ends_cleanly")
async def test_one_that_cannot_start_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The request is answered: it may have nothing to do with tasks."""

    async def startup(**_: Any) -> None:
        raise OSError("no threads left")

    monkeypatch.setattr(server, "startup", startup)
    await a_page_of_django()
    assert "The task runtime could not start." in caplog.text
    assert "no threads left" in caplog.text


@pytest.mark.usefixtures("served", "configure")
def test_wsgi_starts_it_in_a_thread(django_db_blocker: Any) -> None:
    """No server starts it there, and none is at fault: no warning."""
    environ = RequestFactory().get("/nowhere/").environ
    with django_db_blocker.unblock():  # Django looks at a connection that another test has left
        WSGIHandler()(environ, lambda *_: None)
    asyncio.run(eventually(host.current))


@pytest.mark.usefixtures("configure")
async def test_django_s_test_clients_start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does any server that a test runs: tests start what they need."""
    first_request.expect()
    await sync_to_async(Client().get)("/nowhere/")
    await AsyncClient().get("/nowhere/")
    await a_page_of_django()
    monkeypatch.setattr(first_request, "_under_test", lambda: False)
    await sync_to_async(Client().get)("/nowhere/")
    await AsyncClient().get("/nowhere/")
    assert host.hosted() is None


@pytest.mark.usefixtures("served", "ends_cleanly")
async def test_later_requests_cost_nothing() -> None:
    """The receiver disconnects itself."""
    before = len(request_started.receivers)
    await a_page_of_django()
    assert len(request_started.receivers) == before - 1


@pytest.mark.usefixtures("served", "ends_cleanly")
async def test_where_there_was_a_lifespan_nothing_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server has started the runtime: a request changes nothing."""
    await server.startup()
    runtime = host.current()
    await a_page_of_ours()
    assert host.current() is runtime
    assert [it for it in caplog.records if it.name == "rail_async_tasks.servers"] == []
    assert "warnings" not in (await AsyncClient().get("/tasks/health/ready")).json()


async def test_a_start_that_fails_is_tried_again_and_then_warns(
    served: None, configure: Configure, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The request after it starts the runtime, and the log says what the server lacks."""
    failures = iter([OSError("no thread to be had")])
    start = host.aruntime

    async def aruntime(**options: Any) -> Any:
        for failure in failures:
            raise failure
        return await start(**options)

    monkeypatch.setattr(host, "aruntime", aruntime)
    application = get_django_application()
    await ask(application, HTTP)
    assert "lifespan" not in caplog.text
    assert not server.is_served()
    await ask(application, HTTP)
    await eventually(lambda: "lifespan" in caplog.text)
    assert host.current() is not None
    await host.astop()
