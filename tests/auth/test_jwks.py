"""Keys that a provider publishes: fetched over HTTP, kept, rotated, and gone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jwt
import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory

from rail_async_tasks import Unauthenticated
from rail_async_tasks.auth import jwks
from rail_async_tasks.auth.caller import authenticate, authenticate_sync
from rail_async_tasks.auth.jwks import FRESH, RETRY_AFTER, STALE, UNKNOWN_EVERY, KeySet, Unusable
from tests.auth.jwks_server import JwksServer
from tests.support.api import Configure
from tests.support.tokens import EC, OTHER_RSA, RSA, claims, jwk
from tests.support.waiting import TIMEOUT, wait_for

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def no_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No caller gives up because the machine is slow."""
    for name in ("READ_TIMEOUT", "ANSWER_TIMEOUT", "WAIT_TIMEOUT"):
        monkeypatch.setattr(jwks, name, TIMEOUT)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(provider: JwksServer, clock: Clock) -> KeySet:
    """The provider's, by a clock that stands still."""
    return KeySet(provider.url, clock=clock)


def published(provider: JwksServer, *kids: str) -> None:
    provider.publish(*({"kty": "RSA", "kid": kid, "n": "AQAB", "e": "AQAB"} for kid in kids))


def request_by(
    user: User, private: Any, kid: str | None, algorithm: str = "RS256", **changes: Any
) -> Any:
    payload = claims(str(user.pk), **{"aud": ..., "iss": ..., **changes})
    headers = {} if kid is None else {"kid": kid}
    token = jwt.encode(payload, private, algorithm, headers)
    return RequestFactory().get("/", headers={"authorization": f"Bearer {token}"})


async def is_refused(request: Any) -> bool:
    try:
        await authenticate(request)
    except Unauthenticated:
        return True
    return False


# --- tokens ---------------------------------------------------------------------------------------


@ONE_DATABASE
async def test_tokens_by_published_keys(
    configure: Configure, provider: JwksServer, ada: User
) -> None:
    """RSA and EC, with and without `alg`; fetched once for all of them."""
    provider.publish(
        jwk(RSA, "rsa"), jwk(OTHER_RSA, "bound", alg="RS256", use="sig"), jwk(EC, "ec")
    )
    configure(jwt={"jwks_url": provider.url, "algorithms": ["RS256", "PS256", "ES256"]})
    for private, kid, algorithm in (
        (RSA, "rsa", "RS256"),
        (RSA, "rsa", "PS256"),
        (OTHER_RSA, "bound", "RS256"),
        (EC, "ec", "ES256"),
    ):
        assert await authenticate(request_by(ada, private, kid, algorithm)) == ada
    for private, kid, algorithm in (
        (OTHER_RSA, "bound", "PS256"),
        (OTHER_RSA, "rsa", "RS256"),
        (EC, "rsa", "ES256"),
        (RSA, None, "RS256"),
    ):
        assert await is_refused(request_by(ada, private, kid, algorithm))
    assert await is_refused(request_by(ada, RSA, "rsa", exp=1))
    assert provider.requests == 1


@ONE_DATABASE
def test_from_sync_code(configure: Configure, provider: JwksServer, ada: User) -> None:
    """A view under WSGI waits for the keys in its own thread."""
    provider.publish(jwk(RSA, "rsa"))
    configure(jwt={"jwks_url": provider.url, "algorithms": ["RS256"]})
    assert authenticate_sync(request_by(ada, RSA, "rsa")) == ada


@ONE_DATABASE
async def test_a_rotated_key(configure: Configure, provider: JwksServer, ada: User) -> None:
    """A token by a key that is new is good at once: its unknown id has the keys fetched again."""
    provider.publish(jwk(RSA, "old"))
    configure(jwt={"jwks_url": provider.url, "algorithms": ["RS256"]})
    assert await authenticate(request_by(ada, RSA, "old")) == ada
    provider.publish(jwk(OTHER_RSA, "new"))
    assert await authenticate(request_by(ada, OTHER_RSA, "new")) == ada
    assert await is_refused(request_by(ada, RSA, "old"))
    assert provider.requests == 2


@ONE_DATABASE
async def test_an_outage(
    configure: Configure,
    provider: JwksServer,
    ada: User,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without keys tokens are refused and the log says why; known keys outlast the outage."""
    monkeypatch.setattr(jwks, "RETRY_AFTER", 0.0)
    provider.publish(jwk(RSA, "rsa"))
    provider.down()
    configure(jwt={"jwks_url": provider.url, "algorithms": ["RS256"]})
    request = request_by(ada, RSA, "rsa")
    assert await is_refused(request)
    [record] = [it for it in caplog.records if it.levelname == "ERROR"]
    assert 'task_settings["jwt"]["jwks_url"]: the keys cannot be fetched' in record.getMessage()
    assert "refused" in record.getMessage()
    provider.up()
    assert await authenticate(request) == ada
    provider.down()
    assert await authenticate(request) == ada
    assert await is_refused(request_by(ada, OTHER_RSA, "unknown"))


@ONE_DATABASE
async def test_the_event_loop_goes_on(
    configure: Configure, provider: JwksServer, ada: User
) -> None:
    """A slow provider holds only those who need its keys, by one request for all of them."""
    provider.publish(jwk(RSA, "rsa"))
    provider.may_answer.clear()
    configure(jwt={"jwks_url": provider.url, "algorithms": ["RS256"]})
    callers = [asyncio.create_task(authenticate(request_by(ada, RSA, "rsa"))) for _ in range(20)]
    # The loop runs while the answer is awaited.
    await asyncio.to_thread(wait_for, lambda: provider.requests == 1)
    assert not any(caller.done() for caller in callers)
    callers[0].cancel()  # the others still get their answer
    provider.may_answer.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [ada] * 19
    assert provider.requests == 1


# --- when it is fetched ---------------------------------------------------------------------------


def test_unknown_ids_are_looked_for_once_a_minute(
    provider: JwksServer, keys: KeySet, clock: Clock
) -> None:
    """Made-up key ids do not cause a request each to the provider."""
    published(provider, "a")
    assert keys.find("a") is not None
    assert [keys.find(f"made up {number}") for number in range(50)] == [None] * 50
    assert provider.requests == 2
    published(provider, "a", "b")
    clock.now += UNKNOWN_EVERY - 1
    assert keys.find("b") is None
    clock.now += 1
    assert keys.find("b") is not None
    assert provider.requests == 3


def test_old_keys_serve_while_they_are_fetched_again(
    provider: JwksServer, keys: KeySet, clock: Clock
) -> None:
    """No caller waits for it; a key that is no longer published ends with the next answer."""
    published(provider, "a")
    assert keys.find("a") is not None
    clock.now += FRESH
    assert keys.find("a") is not None
    assert provider.requests == 1
    published(provider, "b")
    provider.may_answer.clear()
    clock.now += 1
    assert keys.find("a") is not None
    provider.may_answer.set()
    wait_for(lambda: keys.find("a") is None)
    assert keys.find("b") is not None


def test_keys_end_with_a_long_outage(provider: JwksServer, keys: KeySet, clock: Clock) -> None:
    """A key that was withdrawn in the meantime must not stay valid for ever."""
    published(provider, "a")
    assert keys.find("a") is not None
    provider.down()
    clock.now += STALE
    assert keys.find("a") is not None
    wait_for(lambda: keys._fetching is None)
    clock.now += 1
    assert keys.find("a") is None


def test_a_provider_that_is_away_is_asked_seldom(
    provider: JwksServer, keys: KeySet, clock: Clock
) -> None:
    """After a failure, tokens are refused without another try for a while."""
    provider.status = 500
    assert [keys.find("a") for _ in range(10)] == [None] * 10
    assert provider.requests == 1
    published(provider, "a")
    provider.status = 200
    clock.now += RETRY_AFTER
    assert keys.find("a") is not None
    assert provider.requests == 2


async def test_waiting_has_an_end(
    provider: JwksServer, keys: KeySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that never answers does not hold its callers for ever, sync or async."""
    monkeypatch.setattr(jwks, "WAIT_TIMEOUT", 0.05)
    provider.may_answer.clear()
    assert await keys.afind("a") is None
    assert await asyncio.to_thread(keys.find, "a") is None
    provider.may_answer.set()
    await asyncio.to_thread(wait_for, lambda: keys._fetching is None)


# --- what is taken --------------------------------------------------------------------------------

RSA_JWK = {"kty": "RSA", "n": "AQAB", "e": "AQAB"}


def test_only_keys_for_signatures_count() -> None:
    """With an id, public, not for encryption; the first of an id."""
    listed = [
        {**RSA_JWK, "kid": "a", "use": "sig"},
        {**RSA_JWK, "kid": "a", "n": "other"},
        {**RSA_JWK, "kid": "b", "use": "enc"},
        {**RSA_JWK},
        {**RSA_JWK, "kid": 7},
        {"kty": "oct", "kid": "c", "k": "c2VjcmV0"},
        "d",
        None,
    ]
    found = jwks.keys_in(json.dumps({"keys": listed}).encode())
    assert found == {"a": listed[0]}


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"\xff", b"[" * 100_000, b"[]", b"null", b"{}", b'{"keys": {}}',
     b'{"keys": []}', b'{"keys": [{"kty": "oct", "kid": "a", "k": "c2VjcmV0"}]}'],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_an_answer_without_keys_is_unusable(body: bytes) -> None:
    """Whatever it is, it is said in one way, and the keys that are known stay."""
    with pytest.raises(Unusable):
        jwks.keys_in(body)


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (302, {"Location": "http://127.0.0.1:1/elsewhere"}, "302"),
        (404, {}, "404"),
        (503, {}, "503"),
    ],
)
def test_any_other_status_is_an_error(
    provider: JwksServer,
    keys: KeySet,
    caplog: pytest.LogCaptureFixture,
    status: int,
    headers: dict[str, str],
    reason: str,
) -> None:
    """Redirects too: the setting says where the keys are."""
    published(provider, "a")
    provider.status, provider.headers = status, headers
    assert keys.find("a") is None
    assert f"HTTP status {reason}" in caplog.text


def test_an_answer_has_a_size(
    provider: JwksServer, keys: KeySet, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory is bounded, whatever is sent."""
    provider.body = b" " * (jwks.MAX_BYTES + 1)
    assert keys.find("a") is None
    assert "too large" in caplog.text


@pytest.mark.parametrize(
    "url", ["http://id.example/jwks", "ftp://127.0.0.1/jwks", "file:///etc/passwd"]
)
def test_keys_come_by_https_or_from_this_machine(url: str) -> None:
    """An attacker who can change the answer can sign tokens."""
    with pytest.raises(Unusable, match="not https"):
        jwks.fetch_keys(url)
