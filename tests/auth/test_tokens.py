"""Good bearer tokens: every family of algorithms, every way to name keys, and their times."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import RequestFactory

from rail_async_tasks import Unauthenticated, checks
from rail_async_tasks.auth.caller import authenticate, authenticate_sync
from rail_async_tasks.auth.users import load_user
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from tests.support.api import Api, Configure
from tests.support.sockets import connected
from tests.support.tokens import EC, ED, HS, OTHER_SECRET, RS, RSA, SECRET, claims, good, pem

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
WHOAMI = {"query": "mutation { whoami { task { result ownerId } } }"}


def request_with(token: str) -> Any:
    return RequestFactory().get("/", headers={"authorization": f"Bearer {token}"})


def bare(user: User, **changes: Any) -> dict[str, Any]:
    """Claims where neither audience nor issuer is asked for."""
    return claims(str(user.pk), **{"aud": ..., "iss": ..., **changes})


def is_refused(token: str) -> bool:
    try:
        authenticate_sync(request_with(token))
    except Unauthenticated:
        return True
    return False


@ONE_DATABASE
@pytest.mark.parametrize(
    ("algorithm", "private", "public"),
    [
        ("HS256", SECRET, SECRET),
        ("HS384", SECRET * 2, SECRET * 2),
        ("HS512", SECRET * 2, (SECRET * 2).encode()),
        ("RS256", RSA, pem(RSA)),
        ("RS512", RSA, pem(RSA)),
        ("PS256", RSA, pem(RSA).encode()),
        ("ES256", EC, pem(EC)),
        ("EdDSA", ED, pem(ED)),
    ],
)
async def test_each_algorithm(
    configure: Configure, ada: User, algorithm: str, private: Any, public: Any
) -> None:
    """A token by the key is its user's, for async and for sync code."""
    configure(jwt={"key": public, "algorithms": [algorithm]})
    request = request_with(jwt.encode(bare(ada), private, algorithm))
    assert await authenticate(request) == ada
    assert await sync_to_async(authenticate_sync)(request) == ada


@ONE_DATABASE
def test_a_secret_of_32_bytes_does_for_every_hash(configure: Configure, ada: User) -> None:
    """As the settings' check says, and without a warning at each token."""
    secret = "k" * 32
    with pytest.warns(UserWarning, match="length"):
        token = jwt.encode(bare(ada), secret, "HS512")
    configure(jwt={"key": secret, "algorithms": ["HS512"]})
    assert authenticate_sync(request_with(token)) == ada


@ONE_DATABASE
def test_one_key_for_several_algorithms_of_its_family(configure: Configure, ada: User) -> None:
    """Each key verifies what it is made for, and nothing that the list has for others."""
    configure(
        jwt={"keys": {"r": pem(RSA), "e": pem(EC)}, "algorithms": ["RS256", "PS256", "ES256"]}
    )
    for kid, private, algorithm in (("r", RSA, "RS256"), ("r", RSA, "PS256"), ("e", EC, "ES256")):
        token = jwt.encode(bare(ada), private, algorithm, {"kid": kid})
        assert authenticate_sync(request_with(token)) == ada
    assert is_refused(jwt.encode(bare(ada), EC, "ES256", {"kid": "r"}))
    assert is_refused(jwt.encode(bare(ada), RSA, "RS256", {"kid": "e"}))


@ONE_DATABASE
def test_keys_by_their_ids(configure: Configure, ada: User) -> None:
    """A new key and an old one are good at once, each under its own id."""
    configure(jwt=HS)
    assert authenticate_sync(request_with(good(str(ada.pk)))) == ada
    assert authenticate_sync(request_with(good(str(ada.pk), "old", OTHER_SECRET))) == ada
    assert is_refused(good(str(ada.pk), "old", SECRET))


@ONE_DATABASE
def test_one_key_takes_any_key_id(configure: Configure, ada: User) -> None:
    """With `key` there is nothing to choose by it."""
    configure(jwt=RS)
    for headers in ({}, {"kid": "whatever"}):
        token = jwt.encode(bare(ada), RSA, "RS256", headers)
        assert authenticate_sync(request_with(token)) == ada


@ONE_DATABASE
@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"exp": -29}, False),
        ({"exp": -31}, True),
        ({"nbf": 30}, False),
        ({"nbf": 31}, True),
        ({"iat": 30}, False),
        ({"iat": 31}, True),
        ({"iat": -10_000, "nbf": -10_000}, False),
    ],
    ids=str,
)
def test_the_leeway(
    configure: Configure,
    ada: User,
    changes: dict[str, int],
    refused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """30 seconds by default, for `exp`, `nbf` and `iat`."""
    now = datetime.now(UTC).replace(microsecond=0)

    class Still(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return now

    monkeypatch.setattr("jwt.api_jwt.datetime", Still)
    configure(jwt=HS)
    times = {name: int(now.timestamp()) + seconds for name, seconds in changes.items()}
    assert is_refused(good(str(ada.pk), **times)) is refused


@ONE_DATABASE
def test_a_leeway_of_ones_own(configure: Configure, ada: User) -> None:
    """Seconds; 0 is none."""
    token = good(str(ada.pk), exp=int(time.time()) - 5)
    for leeway, refused in ((0, True), (0.5, True), (60, False)):
        configure(jwt={**HS, "leeway": leeway})
        assert is_refused(token) is refused


@ONE_DATABASE
def test_several_audiences_and_issuers(configure: Configure, ada: User) -> None:
    """Each one of the setting's does, and a token may be for others too."""
    configure(jwt={**HS, "audience": ["a", "b"], "issuer": ["x", "y"]})
    for aud, iss, refused in (
        ("a", "x", False),
        ("b", "y", False),
        (["c", "b"], "x", False),
        ("c", "x", True),
        ("a", "z", True),
        ([], "x", True),
    ):
        assert is_refused(good(str(ada.pk), aud=aud, iss=iss)) is refused


@ONE_DATABASE
def test_another_claim_for_the_user(configure: Configure, ada: User) -> None:
    """It holds the primary key, as text or as a number; `sub` is then not looked at."""
    configure(jwt={**HS, "user_claim": "user_id"})
    for user_id in (ada.pk, str(ada.pk)):
        assert authenticate_sync(request_with(good("another", user_id=user_id))) == ada
    assert is_refused(good(str(ada.pk)))


@ONE_DATABASE
@pytest.mark.parametrize("claim", [None, True, 1.0, b"1", ["1"], {"pk": 1}], ids=repr)
def test_a_claim_of_a_wrong_type_never_gets_to_the_database(
    ada: User, claim: Any, django_assert_num_queries: Any
) -> None:
    """Where keys are text, its text could be another user's key."""
    with django_assert_num_queries(0):
        assert load_user(claim) is None


@ONE_DATABASE
def test_the_user_is_looked_up_each_time(configure: Configure, ada: User) -> None:
    """A deactivated user is out at the next request; each request has its own object."""
    configure(jwt=HS)
    token = good(str(ada.pk))
    first = authenticate_sync(request_with(token))
    User.objects.filter(pk=ada.pk).update(first_name="Ada")
    second = authenticate_sync(request_with(token))
    assert (first.first_name, second.first_name) == ("", "Ada")
    User.objects.filter(pk=ada.pk).update(is_active=False)
    assert is_refused(token)


@ONE_DATABASE
async def test_over_http_and_socket(api: Api, configure: Configure, ada: User) -> None:
    """The task is the token's user's, also where the session is another user's."""
    configure(backend="sync", jwt=HS)
    bob = await User.objects.acreate(username="bob")
    await api.client.aforce_login(bob)
    token = good(str(ada.pk))
    answer = await api.post(WHOAMI, Authorization=f"Bearer {token}")
    task = answer.json()["data"]["whoami"]["task"]
    assert (task["result"]["user"], task["ownerId"]) == ("ada", str(ada.pk))
    cookie = f"sessionid={api.client.cookies['sessionid'].value}"
    payload = {"authorization": f"Bearer {token}"}
    async with connected(payload, cookie=cookie) as socket:
        await socket.subscribe(WHOAMI["query"])
        task = (await socket.receive())["payload"]["data"]["whoami"]["task"]
        assert (task["result"]["user"], task["ownerId"]) == ("ada", str(ada.pk))


async def test_django_s_own_way_of_asking_agrees(
    api: Api, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`await request.auser()` is the token's user too, not the session's."""
    from rail_async_tasks.auth.context import RequestContext

    someone = User(pk=7, username="someone")

    async def authenticated(*_: Any) -> User:
        return someone

    monkeypatch.setattr("rail_async_tasks.auth.context.authenticate", authenticated)
    context = RequestContext(request=RequestFactory().get("/"), response=None)  # type: ignore[arg-type]
    await context.authenticate()
    assert context.request.user is context.user is await context.request.auser() is someone


@ONE_DATABASE
async def test_without_pyjwt(
    api: Api, configure: Configure, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the extra; a client learns only that settings are wrong."""
    configure(backend="sync", jwt=HS)
    token = good(str(ada.pk))
    monkeypatch.setitem(sys.modules, "jwt", None)
    monkeypatch.delitem(sys.modules, "rail_async_tasks.auth.jwt", raising=False)
    with pytest.raises(ConfigurationError, match=r'pip install "rail_async_tasks\[jwt\]"'):
        await authenticate(request_with(token))
    answer = await api.post(WHOAMI, Authorization=f"Bearer {token}")
    assert answer.status_code == 503
    [error] = answer.json()["errors"]
    assert error["extensions"] == {"code": "BACKEND_UNAVAILABLE"}
    assert "jwt" not in error["message"]


@ONE_DATABASE
async def test_a_socket_without_pyjwt(
    configure: Configure, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed as the server's own mistake, not as a bad credential."""
    from tests.auth.test_refusals import by_socket

    configure(backend="sync", jwt=HS)
    monkeypatch.setitem(sys.modules, "jwt", None)
    monkeypatch.delitem(sys.modules, "rail_async_tasks.auth.jwt", raising=False)
    payload = {"authorization": f"Bearer {good(str(ada.pk))}"}
    assert await by_socket(payload) == (1011, "The task backend is not configured correctly.")


def test_without_cryptography(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public keys need it, and secrets do not."""
    from rail_async_tasks.auth import jwt as ours

    monkeypatch.setattr(ours, "has_crypto", False)
    configure(jwt=HS)
    settings = get_settings().jwt
    assert settings is not None
    ours.Verifier(settings)
    configure(jwt=RS)
    settings = get_settings().jwt
    assert settings is not None
    with pytest.raises(ConfigurationError, match=r"cryptography.*rail_async_tasks\[jwt\]"):
        ours.Verifier(settings)


LOOKS_LIKE_A_KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    ("jwt_settings", "place"),
    [
        ({"key": LOOKS_LIKE_A_KEY, "algorithms": ["RS256"]}, '["key"]'),
        ({"key": pem(EC), "algorithms": ["RS256", "PS256"]}, '["key"]'),
        ({"key": pem(EC), "algorithms": ["ES384"]}, '["key"]'),
        ({"keys": {"a": pem(RSA), "b": pem(EC)}, "algorithms": ["RS256"]}, '["keys"]["b"]'),
        ({"key": '{"kty": "oct", "k": "c2VjcmV0c2VjcmV0"}', "algorithms": ["HS256"]}, '["key"]'),
    ],
)
def test_a_key_that_cannot_be_used_is_a_check_error(
    configure: Configure, jwt_settings: dict[str, Any], place: str
) -> None:
    """Said at start, not by refusing everybody; nothing of the key is shown."""
    configure(jwt=jwt_settings)
    [message] = checks.check_jwt_keys(None)
    assert message.id == "rail_async_tasks.E010"
    assert f'task_settings["jwt"]{place} cannot be read' in message.msg
    assert "MCow" not in message.msg + str(message.hint)
    configure(jwt=HS)
    assert checks.check_jwt_keys(None) == []
    configure()
    assert checks.check_jwt_keys(None) == []
