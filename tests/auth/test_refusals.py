"""Bad bearer tokens: refused alike over every transport, whatever is wrong, and logged nowhere."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import AsyncClient, RequestFactory

from rail_async_tasks import Unauthenticated
from rail_async_tasks.auth.caller import authenticate, authenticate_sync
from rail_async_tasks.auth.context import RequestContext
from tests.support.api import Api, Configure
from tests.support.sockets import Socket
from tests.support.tokens import BAD, HS, WHY, Bad, good

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

REFUSAL = (
    b'{"errors": [{"message": "Authentication is required.",'
    b' "extensions": {"code": "UNAUTHENTICATED"}}]}'
)
QUERY = {"query": "{ shelves }"}
STREAM = {"query": "subscription { myTaskUpdates { id } }"}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that anybody logs at any level, with whatever else the records hold."""
    caplog.set_level(logging.NOTSET)
    form = logging.Formatter()

    def text() -> str:
        return "\n".join(f"{form.format(record)} {record.__dict__!r}" for record in caplog.records)

    return text


def parts(token: str) -> list[str]:
    """Returns the token's pieces, which must not be seen anywhere; but for too short ones."""
    return [part for part in token.replace(",", ".").replace(" ", ".").split(".") if len(part) > 8]


async def by_http(client: AsyncClient, authorization: str, body: Any, accept: str) -> Any:
    """The status, the headers and the body of the answer."""
    response = await client.post(
        "/graphql/",
        json.dumps(body),
        content_type="application/json",
        headers={"authorization": authorization, "accept": accept},
    )
    assert not response.streaming
    return response.status_code, dict(response.items()), response.content


async def by_socket(payload: Any, **headers: str) -> tuple[int | None, str]:
    """The code and the reason of the close that answers."""
    socket = Socket(**headers)
    await socket.open()
    await socket.send({"type": "connection_init", "payload": payload})
    code = await socket.closed()
    await socket.leave(code or 1005)
    return code, socket.reason


WAYS = [
    "json", "json beside a session", "events", "events beside a session",
    "payload", "payload beside a session", "handshake beside a session", "python",
]  # fmt: skip


@pytest.mark.covering("bad", "way")
@ONE_DATABASE
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_a_bad_token_is_refused_alike_everywhere(
    api: Api, configure: Configure, ada: User, bad: Bad, way: str, log: Callable[[], str]
) -> None:
    """Over HTTP, SSE and WebSocket, for sync code too; also beside a good session."""
    configure(backend="sync", jwt=bad.jwt)
    token = await sync_to_async(bad.make)(ada)
    cookies: dict[str, str] = {}
    if "session" in way:
        await api.client.aforce_login(await User.objects.acreate(username="bob"))
        cookies["cookie"] = f"sessionid={api.client.cookies['sessionid'].value}"
    bearer = f"Bearer {token}"
    match way.split(maxsplit=1)[0]:
        case "json":
            await assert_http_refuses(api.client, bearer, QUERY, "application/json")
        case "events":
            await assert_http_refuses(api.client, bearer, STREAM, "text/event-stream")
        case "payload":
            assert await by_socket({"authorization": bearer}, **cookies) == (4403, "Forbidden")
        case "handshake":
            assert await by_socket({}, authorization=bearer, **cookies) == (4403, "Forbidden")
        case "python":
            await assert_python_refuses(token)
    said = log()
    assert [part for part in parts(token) if part in said] == []


async def assert_http_refuses(client: AsyncClient, bearer: str, body: Any, accept: str) -> None:
    status, headers, content = await by_http(client, bearer, body, accept)
    assert (status, content) == (401, REFUSAL)
    assert (headers["WWW-Authenticate"], headers["Content-Type"]) == (
        "Bearer",
        "application/json",
    )


async def assert_python_refuses(token: str) -> None:
    """For sync and async code; neither the exception nor its frames show the token."""
    request = RequestFactory().get("/", headers={"authorization": f"Bearer {token}"})
    with pytest.raises(Unauthenticated) as by_sync:
        await sync_to_async(authenticate_sync)(request)
    with pytest.raises(Unauthenticated) as by_async:
        await authenticate(request)
    said_of = (("Authentication is required.",), {"code": "UNAUTHENTICATED"})
    for refused in (by_sync.value, by_async.value):
        assert (refused.args, refused.extensions) == said_of
        assert (refused.__cause__, refused.__context__) == (None, None)
        for frame, _ in traceback.walk_tb(refused.__traceback__):
            if frame.f_code.co_filename != __file__ and "/auth/" in frame.f_code.co_filename:
                assert not [part for part in parts(token) if part in repr(frame.f_locals)]


@ONE_DATABASE
async def test_a_megabyte_is_refused_before_it_is_read(
    api: Api, configure: Configure, ada: User
) -> None:
    """Over HTTP like every bad token. A WebSocket takes no frame of that size at all (1009)."""
    configure(backend="sync", jwt=HS)
    token = await sync_to_async(good)(str(ada.pk), filler="x" * 1_000_000)
    for body, accept in ((QUERY, "application/json"), (STREAM, "text/event-stream")):
        answer = await by_http(api.client, f"Bearer {token}", body, accept)
        assert (answer[0], answer[2]) == (401, REFUSAL)
    code, _ = await by_socket({"authorization": f"Bearer {token}"})
    assert code == 1009


@ONE_DATABASE
@pytest.mark.parametrize(
    "authorization",
    ["Bearer", "bearer ", "BEARER  ", "Bearer\t", "Bearer,", "Basic YWRhOng=,Bearer bad.bad.bad"],
)
async def test_a_bearer_without_a_token_is_refused(
    api: Api, configure: Configure, ada: User, authorization: str
) -> None:
    """A bad bearer is refused and never ignored; beside a session too."""
    configure(backend="sync", jwt=HS)
    await api.client.aforce_login(ada)
    answer = await by_http(api.client, authorization, QUERY, "application/json")
    assert (answer[0], answer[2]) == (401, REFUSAL)


@ONE_DATABASE
@pytest.mark.parametrize(
    "payload",
    [
        {"authorization": None},
        {"authorization": 1},
        {"authorization": True},
        {"authorization": ["Bearer x"]},
        {"authorization": {}},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic YWRhOng="},
        {"Authorization": None},
        {"authorization": "Bearer x", "Authorization": "Bearer x"},
    ],
    ids=str,
)
async def test_a_payload_with_anything_but_a_bearer_is_refused(
    configure: Configure, database: object, payload: Any
) -> None:
    """There the key has no other use, so this is a credential gone wrong."""
    configure(backend="sync", jwt=HS)
    assert await by_socket(payload) == (4403, "Forbidden")


@ONE_DATABASE
async def test_a_payload_of_a_token_without_its_scheme_is_refused(
    configure: Configure, ada: User
) -> None:
    """A good token that is not said to be one does not make its sender anonymous."""
    configure(backend="sync", jwt=HS)
    token = await sync_to_async(good)(str(ada.pk))
    assert await by_socket({"authorization": token}) == (4403, "Forbidden")


@ONE_DATABASE
async def test_two_tokens_that_differ_are_refused(configure: Configure, ada: User) -> None:
    """A handshake's header and its payload may say the same, not two things."""
    configure(backend="sync", jwt=HS)
    one, two = (good(str(ada.pk), jti=name) for name in ("one", "two"))
    payload = {"authorization": f"Bearer {one}"}
    assert await by_socket(payload, authorization=f"Bearer {two}") == (4403, "Forbidden")
    socket = Socket(authorization=f"Bearer {one}")
    await socket.open()
    await socket.send({"type": "connection_init", "payload": payload})
    assert await socket.receive() == {"type": "connection_ack"}
    await socket.leave()


@ONE_DATABASE
async def test_a_bearer_that_nothing_can_verify_is_refused(
    api: Api, ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the setting `jwt` no token is good, and none makes its sender anonymous."""
    caplog.set_level(logging.INFO, "rail_async_tasks.auth")
    token = good(str(ada.pk))
    answer = await by_http(api.client, f"Bearer {token}", QUERY, "application/json")
    assert (answer[0], answer[2]) == (401, REFUSAL)
    assert await by_socket({"authorization": f"Bearer {token}"}) == (4403, "Forbidden")
    assert 'task_settings["jwt"] does not say how to verify it' in caplog.text


@pytest.mark.covering("database", "name")
@pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("name", BAD)
def test_the_log_says_why(
    configure: Configure, ada: User, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has what the client does not get; each token is refused for what is wrong with it.

    On both databases, which are asked for users by strange keys.
    """
    configure(jwt=BAD[name].jwt)
    caplog.set_level(logging.INFO, "rail_async_tasks.auth")
    authorization = f"Bearer {BAD[name].make(ada)}"
    with pytest.raises(Unauthenticated):
        authenticate_sync(RequestFactory().get("/", headers={"authorization": authorization}))
    [record] = caplog.records
    assert record.getMessage().startswith(f"A bearer token was refused: {WHY[name]}")


@ONE_DATABASE
async def test_other_schemes_leave_the_session_alone(
    api: Api, configure: Configure, ada: User
) -> None:
    """A proxy's Basic credential does not get in the way of a session."""
    configure(backend="sync", jwt=HS)
    await api.client.aforce_login(ada)
    body = {"query": "mutation { whoami { task { ownerId } } }"}
    for authorization in ("Basic YWRhOng=", "Bearerish x", 'Digest username="Bearer x"'):
        status, _, content = await by_http(api.client, authorization, body, "application/json")
        assert status == 200
        assert json.loads(content)["data"]["whoami"]["task"] == {"ownerId": str(ada.pk)}


@ONE_DATABASE
@pytest.mark.parametrize("name", ["token", "access_token", "authorization", "jwt"])
async def test_a_token_in_the_url_is_ignored(configure: Configure, ada: User, name: str) -> None:
    """URLs end up in logs, so a token in one counts for nothing, over HTTP and WebSocket."""
    configure(backend="sync", jwt=HS)
    token = good(str(ada.pk))
    response = await AsyncClient().post(
        f"/graphql/?{name}={token}",
        json.dumps({"query": "mutation { whoami { task { ownerId } } }"}),
        content_type="application/json",
    )
    assert response.json()["data"]["whoami"]["task"] == {"ownerId": None}
    socket = Socket()
    socket.app.scope["query_string"] = f"{name}=Bearer%20{token}".encode()
    await socket.ready()
    await socket.subscribe("mutation { whoami { task { ownerId } } }")
    answer = await socket.receive()
    assert answer["payload"]["data"]["whoami"]["task"] == {"ownerId": None}
    await socket.leave()


@ONE_DATABASE
async def test_what_a_token_came_in_shows_nothing_of_it(ada: User) -> None:
    """Not by its repr, where an error page or a log may find it."""
    token = good(str(ada.pk))
    context = RequestContext(
        request=HttpRequest(),
        response=None,  # type: ignore[arg-type]
        connection_params={"authorization": f"Bearer {token}"},
    )
    assert [part for part in parts(token) if part in repr(context)] == []
