"""The ASGI application: what goes where, and what the server hears of a failed start."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path

from rail_async_tasks import asgi
from rail_async_tasks.graphql.views import TaskGraphQLView
from rail_async_tasks.hosting import server as hosted_server
from tests.support.waiting import TIMEOUT


class Urls:
    """A URL configuration that has the package under a prefix."""

    urlpatterns = (path("api/tasks/", include("rail_async_tasks.urls")),)


def handshake(path: str, root_path: str = "") -> dict[str, Any]:
    return {
        "type": "websocket",
        "path": path,
        "root_path": root_path,
        "query_string": b"",
        "headers": [],
        "subprotocols": ["graphql-transport-ws"],
    }


async def first_answer(scope: dict[str, Any]) -> Any:
    """Returns the application's answer to the opening of a socket."""
    socket = ApplicationCommunicator(asgi.get_asgi_application(), scope)
    await socket.send_input({"type": "websocket.connect"})
    answer = await socket.receive_output(TIMEOUT)
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(TIMEOUT)
    return answer


async def test_sockets_are_served_at_graphql() -> None:
    """Where the server has a root path, below it."""
    accepted = {"type": "websocket.accept", "subprotocol": "graphql-transport-ws"}
    assert await first_answer(handshake("/graphql/")) == accepted
    assert await first_answer(handshake("/shop/graphql/", root_path="/shop")) == accepted


@pytest.mark.parametrize("path", ["/", "/graphql", "/graphql/x", "/admin/", "/tasks/graphql/"])
async def test_other_sockets_are_refused(path: str) -> None:
    """Politely, with no traceback in the server's log."""
    assert await first_answer(handshake(path)) == {"type": "websocket.close"}


async def test_sockets_follow_the_view_to_its_prefix(settings: Any) -> None:
    """Where a project mounts the URLs elsewhere, sockets are served there too."""
    settings.ROOT_URLCONF = Urls
    answer = await first_answer(handshake("/api/tasks/graphql/"))
    assert answer["type"] == "websocket.accept"
    answer = await first_answer(handshake("/api/tasks/graphql/console.js"))
    assert answer["type"] == "websocket.close"


class UrlsByLanguage:
    """A URL configuration whose paths begin with the language."""

    urlpatterns = i18n_patterns(path("", include("rail_async_tasks.urls")))


@pytest.mark.parametrize("served", ["/shop/graphql/", "/graphql/"], ids=["kept", "cut off"])
async def test_sockets_are_served_below_a_forced_script_name(settings: Any, served: str) -> None:
    """The proxy in front may keep it in the path or not: HTTP is served in both cases."""
    settings.FORCE_SCRIPT_NAME = "/shop"
    assert (await over_http(served + "?query={__typename}"))["status"] == 200
    assert (await first_answer(handshake(served)))["type"] == "websocket.accept"


async def test_sockets_are_served_below_the_language_of_the_path(settings: Any) -> None:
    """As over HTTP, where LocaleMiddleware reads it."""
    settings.ROOT_URLCONF = UrlsByLanguage
    settings.MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware", *settings.MIDDLEWARE]
    for language in ("en", "de"):
        served = f"/{language}/graphql/"
        assert (await first_answer(handshake(served)))["type"] == "websocket.accept"
        assert (await over_http(served + "?query={__typename}"))["status"] == 200


class ProjectsView(TaskGraphQLView):
    """A project's subclass of the view."""


class ProjectsUrls:
    urlpatterns = (path("api/", ProjectsView.as_view()),)


async def test_sockets_are_served_beside_a_subclass_of_the_view(settings: Any) -> None:
    """A project that changes the view keeps its sockets."""
    settings.ROOT_URLCONF = ProjectsUrls
    assert (await first_answer(handshake("/api/")))["type"] == "websocket.accept"


async def test_a_wrong_path_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """As a WARNING, with what the path was read as, and without the query string."""
    wrong = handshake("/ws/graphql/\n", root_path="/shop") | {"query_string": b"token=secret"}
    await first_answer(wrong)
    [record] = [it for it in caplog.records if it.name == "rail_async_tasks.asgi"]
    assert record.levelno == logging.WARNING
    assert r"'/ws/graphql/\n' (root_path '/shop', FORCE_SCRIPT_NAME None)" in record.getMessage()
    assert "secret" not in caplog.text


async def over_http(url: str) -> Any:
    """The beginning of the answer to a GET."""
    target, _, query = url.partition("?")
    scope = handshake(target) | {
        "type": "http", "method": "GET", "query_string": query.encode(),
        "headers": [(b"host", b"localhost")],
    }  # fmt: skip
    http = ApplicationCommunicator(asgi.get_asgi_application(), scope)
    await http.send_input({"type": "http.request"})
    answer = await http.receive_output(TIMEOUT)
    while (await http.receive_output(TIMEOUT)).get("more_body"):
        pass
    await http.wait(TIMEOUT)
    return answer


async def test_an_unknown_protocol_is_an_error() -> None:
    """As in Django's own application."""
    socket = ApplicationCommunicator(asgi.get_asgi_application(), {"type": "carrier-pigeon"})
    with pytest.raises(ValueError, match="carrier-pigeon"):
        await socket.wait(TIMEOUT)


async def lifespan() -> ApplicationCommunicator:
    socket = ApplicationCommunicator(asgi.get_asgi_application(), {"type": "lifespan"})
    await socket.send_input({"type": "lifespan.startup"})
    return socket


async def test_the_runtime_lives_from_startup_to_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's lifespan is the runtime's, in the server's loop."""
    calls = []

    async def startup() -> None:
        calls.append(("startup", asyncio.get_running_loop()))

    async def shutdown() -> None:
        calls.append(("shutdown", asyncio.get_running_loop()))

    monkeypatch.setattr(hosted_server, "startup", startup)
    monkeypatch.setattr(hosted_server, "shutdown", shutdown)
    server = await lifespan()
    assert await server.receive_output(TIMEOUT) == {"type": "lifespan.startup.complete"}
    assert [name for name, _ in calls] == ["startup"]
    await server.send_input({"type": "lifespan.shutdown"})
    assert await server.receive_output(TIMEOUT) == {"type": "lifespan.shutdown.complete"}
    assert calls[1] == ("shutdown", asyncio.get_running_loop())
    await server.wait(TIMEOUT)


async def test_a_failed_start_is_reported_to_the_server(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A server with wrong settings ends at once and says why."""
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"max_workers": "four"}}
    server = await lifespan()
    answer = await server.receive_output(TIMEOUT)
    assert answer["type"] == "lifespan.startup.failed"
    assert "max_workers" in answer["message"]
    await server.wait(TIMEOUT)
    assert "The task runtime could not start." in caplog.text


async def test_a_failed_shutdown_is_reported_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And does not keep the server from ending."""

    async def fine() -> None: ...

    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(hosted_server, "startup", fine)
    monkeypatch.setattr(hosted_server, "shutdown", broken)
    server = await lifespan()
    await server.receive_output(TIMEOUT)
    await server.send_input({"type": "lifespan.shutdown"})
    answer = await server.receive_output(TIMEOUT)
    assert answer["type"] == "lifespan.shutdown.failed"
    assert "ZeroDivisionError" in answer["message"]
    await server.wait(TIMEOUT)
    assert "did not shut down cleanly" in caplog.text
