"""The `authenticator` setting: a project's own authentication."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpRequest
from django.test import RequestFactory

from rail_async_tasks import Unauthenticated
from rail_async_tasks.auth.caller import authenticate, authenticate_sync
from rail_async_tasks.errors import ConfigurationError
from tests.auth import authenticators
from tests.auth.test_refusals import REFUSAL, by_socket
from tests.support.api import Api, Configure
from tests.support.sockets import connected
from tests.support.tokens import HS, good

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
FORMS = ["plain", "awaited", "lazy", "lazily_awaited", "an_object"]
WHOAMI = "mutation { whoami { task { result ownerId } } }"


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    authenticators.asked.clear()


def path(name: str) -> str:
    return f"tests.auth.authenticators.{name}"


def request_of(name: str, **headers: str) -> HttpRequest:
    return RequestFactory().get("/", headers={"x-user": name, **headers})


@ONE_DATABASE
@pytest.mark.parametrize("form", FORMS)
async def test_it_says_who_is_calling(api: Api, configure: Configure, ada: User, form: str) -> None:
    """`def` or `async def`, for async and sync code; its user is loaded."""
    configure(backend="sync", authenticator=path(form))
    assert await authenticate(request_of("ada")) == ada
    assert await sync_to_async(authenticate_sync)(request_of("ada")) == ada
    answer = await api.post({"query": WHOAMI}, **{"x-user": "ada"})
    assert answer.json()["data"]["whoami"]["task"]["ownerId"] == str(ada.pk)
    assert all(isinstance(subject, HttpRequest) for subject in authenticators.asked)


@ONE_DATABASE
@pytest.mark.parametrize("form", FORMS)
async def test_over_a_socket_it_gets_the_payload(
    configure: Configure, ada: User, form: str
) -> None:
    """The dict that the client sent, whatever is in it."""
    configure(backend="sync", authenticator=path(form))
    payload = {"x-user": "ada", "authorization": 7}
    async with connected(payload) as socket:
        await socket.subscribe(WHOAMI)
        task = (await socket.receive())["payload"]["data"]["whoami"]["task"]
        assert task == {"result": {"user": "ada", "tenant": None}, "ownerId": str(ada.pk)}
    assert authenticators.asked == [payload]


@ONE_DATABASE
@pytest.mark.parametrize("form", FORMS)
async def test_over_a_socket_it_meets_no_old_connection(
    configure: Configure, ada: User, form: str
) -> None:
    """One whose CONN_MAX_AGE is over is closed before, as before a request."""

    def used() -> Any:
        connection = connections["default"]
        connection.ensure_connection()
        connection.close_at = time.monotonic()
        return connection.connection

    configure(authenticator=path(form))
    old = await sync_to_async(used)()
    assert await authenticate(request_of("unknown"), {"x-user": "ada"}) == ada
    assert await sync_to_async(lambda: connections["default"].connection)() is not old


@ONE_DATABASE
@pytest.mark.parametrize("form", ["plain", "awaited", "an_object", "anonymous"])
async def test_none_is_anonymous_whatever_else_came_along(
    api: Api, configure: Configure, ada: User, form: str
) -> None:
    """It replaces the session and the token: neither is looked at, good or bad."""
    configure(backend="sync", authenticator=path(form), jwt=HS)
    await api.client.aforce_login(ada)
    for authorization in (f"Bearer {good(str(ada.pk))}", "Bearer bad", "Bearer"):
        answer = await api.post({"query": WHOAMI}, authorization=authorization)
        assert answer.json()["data"]["whoami"]["task"]["ownerId"] is None
    cookie = f"sessionid={api.client.cookies['sessionid'].value}"
    async with connected({"authorization": "Bearer bad"}, cookie=cookie) as socket:
        await socket.subscribe(WHOAMI)
        task = (await socket.receive())["payload"]["data"]["whoami"]["task"]
        assert task["ownerId"] is None


@pytest.mark.covering("form", "name")
@ONE_DATABASE
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "logged"),
    [("refuse", None), ("break", "ValueError"), ("stranger", "DoesNotExist"), ("stop", "raised")],
)
async def test_what_it_raises_refuses(
    api: Api,
    configure: Configure,
    ada: User,
    form: str,
    name: str,
    logged: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As every bad credential, and what was not meant as a refusal is logged without its text."""
    configure(backend="sync", authenticator=path(form))
    await api.client.aforce_login(ada)
    headers = {"x-user": name, "authorization": "Bearer a-secret-of-mine"}
    response = await api.post({"query": WHOAMI}, **headers)
    assert (response.status_code, response.content) == (401, REFUSAL)
    assert await by_socket(headers) == (4403, "Forbidden")
    for raised in (authenticate, sync_to_async(authenticate_sync)):
        with pytest.raises(Unauthenticated) as refused:
            await raised(request_of(name))
        assert str(refused.value) == "Authentication is required."
    errors = [record for record in caplog.records if record.name == "rail_async_tasks.auth"]
    assert len(errors) == (0 if logged is None else 4)
    for record in errors:
        assert record.levelname == "ERROR"
        assert path(form) in record.getMessage()
        assert str(logged) in record.getMessage()
    assert "a-secret-of-mine" not in caplog.text


@ONE_DATABASE
@pytest.mark.parametrize("form", ["a_name", "a_pair"])
async def test_what_is_no_user_refuses(
    configure: Configure, ada: User, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake in it never makes a caller anonymous."""
    configure(authenticator=path(form))
    with pytest.raises(Unauthenticated):
        await authenticate(request_of("ada"))
    with pytest.raises(Unauthenticated):
        await sync_to_async(authenticate_sync)(request_of("ada"))
    assert caplog.text.count("which is no user") == 2


@ONE_DATABASE
async def test_a_missing_authenticator_refuses_every_caller(
    api: Api, configure: Configure, ada: User
) -> None:
    """A misspelt path opens no other way in."""
    configure(backend="sync", authenticator=path("mispelt"))
    await api.client.aforce_login(ada)
    response = await api.post({"query": WHOAMI})
    assert response.status_code == 503
    assert json.loads(response.content)["errors"][0]["extensions"] == {
        "code": "BACKEND_UNAVAILABLE"
    }
    assert await by_socket({}) == (1011, "The task backend is not configured correctly.")
    with pytest.raises(ConfigurationError, match="mispelt"):
        await authenticate(request_of("ada"))


@ONE_DATABASE
async def test_a_subject_without_a_request_is_passed_on(configure: Configure, ada: User) -> None:
    """A payload is what it is asked about also where the handshake has a session."""
    configure(authenticator=path("plain"))
    handshake: Any = request_of("bob")
    assert await authenticate(handshake, {"x-user": "ada"}) == ada
