"""WebSocket routes of the project's own, beside GraphQL's."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import Resolver404, include, path, re_path
from django.views import View

from rail_async_tasks.asgi import get_asgi_application
from rail_async_tasks.graphql.session import with_session
from tests.support.waiting import TIMEOUT


class Echo(AsyncWebsocketConsumer):
    """Says, when it is opened, where it is and who is there."""

    name = "echo"

    async def connect(self) -> None:
        await self.accept()
        route, user = self.scope["url_route"], self.scope["user"]
        await self.send(f"{self.name} {route['kwargs']} {user.get_username() or 'anonymous'}")


class Other(Echo):
    name = "other"


class Lost(AsyncWebsocketConsumer):
    """Fails in its own way, after it was accepted."""

    async def connect(self) -> None:
        await self.accept()
        raise Resolver404("of the consumer's own")


ROUTES = [
    path("chat/", Echo.as_asgi()),
    path("rooms/<int:room>/", Echo.as_asgi()),
    path("rooms/7/", Other.as_asgi()),
    re_path(r"^live/(?P<what>\w+)$", Echo.as_asgi()),
    path("below/", URLRouter([path("one/", Echo.as_asgi()), re_path("^two", Other.as_asgi())])),
]


def opened(place: str, routes: Any = ROUTES, **scope: Any) -> ApplicationCommunicator:
    headers = {"host": "testserver", **scope.pop("headers", {})}
    scope = {
        "type": "websocket", "path": place, "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "subprotocols": ["graphql-transport-ws"], **scope,
    }  # fmt: skip
    return ApplicationCommunicator(get_asgi_application(websocket=routes), scope)


async def answer(place: str, routes: Any = ROUTES, **scope: Any) -> Any:
    """What a consumer says first, or the answer to the handshake."""
    socket = opened(place, routes, **scope)
    await socket.send_input({"type": "websocket.connect"})
    said = await socket.receive_output(TIMEOUT)
    if said["type"] == "websocket.accept" and said.get("subprotocol") is None:
        said = await socket.receive_output(TIMEOUT)
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(TIMEOUT)
    return said.get("text", said["type"])


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("/chat/", "echo {} anonymous"),
        ("/rooms/3/", "echo {'room': 3} anonymous"),
        ("/rooms/7/", "echo {'room': 7} anonymous"),  # the first that matches
        ("/live/now", "echo {'what': 'now'} anonymous"),
        ("/below/one/", "echo {} anonymous"),
        ("/below/two/and/more", "other {} anonymous"),
        ("/graphql/", "websocket.accept"),
    ],
)
async def test_each_goes_where_it_belongs(place: str, said: str) -> None:
    """`path()`, `re_path()` and routers within routers, in their order; GraphQL beside them."""
    assert await answer(place) == said
    assert await answer(f"/shop{place}", root_path="/shop") == said


@pytest.mark.parametrize("place", ["/", "/chat", "/rooms/x/", "/below/", "/below/three/"])
async def test_other_paths_are_refused(place: str, caplog: pytest.LogCaptureFixture) -> None:
    """With a line in the log, and no traceback."""
    assert await answer(place) == "websocket.close"
    [record] = [it for it in caplog.records if it.name == "rail_async_tasks.asgi"]
    assert record.levelno == logging.WARNING
    assert repr(place) in record.getMessage()
    assert record.exc_info is None


async def test_a_route_for_all_paths_leaves_graphql_alone() -> None:
    """Whether it is a pattern or a path with a parameter."""
    for catches in (re_path(r"^.*$", Echo.as_asgi()), path("<path:where>", Echo.as_asgi())):
        assert await answer("/graphql/", [catches]) == "websocket.accept"
        assert str(await answer("/elsewhere/", [catches])).startswith("echo")


async def test_a_path_for_graphqls_own_path_goes_before_ours() -> None:
    """A project that has a consumer of its own there wants that one."""
    assert await answer("/graphql/", [path("graphql/", Echo.as_asgi())]) == "echo {} anonymous"
    assert await answer("/graphql/", [path("graphql", Echo.as_asgi())]) == "websocket.accept"


async def test_an_error_of_a_consumer_is_its_own() -> None:
    """Not a path that nothing serves."""
    socket = opened("/lost/", [path("lost/", Lost.as_asgi())])
    await socket.send_input({"type": "websocket.connect"})
    with pytest.raises(Resolver404):
        await socket.wait(TIMEOUT)


@pytest.mark.django_db(transaction=True)
async def test_consumers_know_the_user_of_the_session() -> None:
    """As behind Channels' `AuthMiddlewareStack`."""

    def cookie() -> str:
        client = Client()
        client.force_login(User.objects.create_user("ada"))
        return f"{django_settings.SESSION_COOKIE_NAME}={client.cookies['sessionid'].value}"

    headers = {"cookie": await sync_to_async(cookie)()}
    assert await answer("/chat/", headers=headers) == "echo {} ada"


@pytest.mark.django_db(transaction=True)
async def test_a_session_that_a_middleware_has_set() -> None:
    """From a header, say: it counts on GraphQL's sockets without the cookie."""

    def session() -> Any:
        client = Client()
        client.force_login(User.objects.create_user("ada"))
        return client.session

    names: list[str] = []

    async def asked(scope: Any, receive: Any, send: Any) -> None:
        names.append(scope["user"].get_username())

    scope: Any = {"type": "websocket", "headers": []}
    unused: Any = None
    given = {"session": await sync_to_async(session)()}
    for more in ({}, given):
        await with_session(asked)({**scope, **more}, unused, unused)
    assert names == ["", "ada"]


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("http://testserver", "echo {} anonymous"),
        ("https://localhost", "echo {} anonymous"),  # in ALLOWED_HOSTS
        ("https://localhost:8443", "websocket.close"),  # another service of that host
        ("https://evil.example", "websocket.close"),
        ("null", "websocket.close"),
    ],
)
async def test_pages_of_others_are_refused(
    origin: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They would come with the user's cookie. What is no browser sends no origin."""
    assert await answer("/chat/", headers={"origin": origin}) == said
    assert ("may not open a WebSocket" in caplog.text) == (said == "websocket.close")


async def test_a_trusted_page_is_let_in(settings: Any) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://partner.example"]
    headers = {"origin": "https://partner.example"}
    assert await answer("/chat/", headers=headers) == "echo {} anonymous"


class Page(View):
    """A view, which serves no WebSocket."""


async def behind_a_middleware(scope: Any, receive: Any, send: Any) -> None:
    """A project's own authentication, say."""
    router = URLRouter([path("<int:number>/", Echo.as_asgi())])
    await router({**scope, "user": User(username="grace")}, receive, send)


async def test_a_route_may_be_any_application() -> None:
    """A middleware of the project's around its own router; `path_remaining` is Channels' word."""
    routes = [re_path("^own/", behind_a_middleware)]
    assert await answer("/own/5/", routes) == "echo {'number': 5} grace"


@pytest.mark.parametrize(
    ("routes", "remedy"),
    [
        ("chat/", "must be a list of routes"),
        (path("chat/", Echo.as_asgi()), "must be a list of routes"),
        ({"chat/": Echo}, "must be a list of routes"),
        (None, "must be a list of routes"),
        ([Echo], "is no route. Write path"),
        ([path("chat/", include([]))], "another URLRouter in place of include"),
        ([path("chat/", Echo)], r"write Echo.as_asgi\(\)"),
        ([path("chat/", Page.as_view())], "a WebSocket needs a consumer"),
    ],
)
def test_what_is_no_route(routes: Any, remedy: str) -> None:
    """It is said where the list is written, not at the first socket."""
    with pytest.raises(TypeError, match=remedy) as error:
        get_asgi_application(websocket=routes)
    assert "get_asgi_application(websocket=" in str(error.value)


def test_what_is_no_http_application() -> None:
    with pytest.raises(TypeError, match="http=…"):
        get_asgi_application(http="root.api.app")  # type: ignore[arg-type]
