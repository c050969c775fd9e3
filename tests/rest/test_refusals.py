"""Requests that REST refuses, and its answers."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client

from rail_async_tasks import service
from rail_async_tasks.models import TaskExecution
from tests.rest import shelf
from tests.rest.conftest import MISSING, ROOT, Configure, Rest, code_of, finished, logged_in
from tests.rest.spec import conform
from tests.settings import database as database_config
from tests.support.databases import default_database

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
pytestmark = ONE_DATABASE

JWT_KEY = "only for tests, and long enough to sign with"


def urls(task_id: str) -> list[tuple[str, str]]:
    """Requests about one task."""
    return [("GET", f"{task_id}/"), ("GET", f"{task_id}/events/"),
            ("POST", f"{task_id}/cancel/"), ("POST", f"{task_id}/retry/")]  # fmt: skip


# --- parameters and bodies -----------------------------------------------------------------------


BAD_QUERIES = [
    ("limit=0", "limit"),
    ("limit=501", "limit"),
    ("limit=-1", "limit"),
    ("limit=%2B5", "limit"),
    ("limit=%205", "limit"),
    ("limit=5%0A", "limit"),
    ("limit=05", "limit"),
    ("limit=1e2", "limit"),
    ("limit=1_0", "limit"),
    ("limit=5.0", "limit"),
    ("limit=%EF%BC%91", "limit"),
    ("limit=" + "9" * 10_000, "limit"),
    ("limit=5&limit=6", "limit"),
    ("status=Completed", "status"),
    ("status=completed&status=failed", "status"),
    ("status=%ED%A0%80", "status"),
    ("after=no-id", "after"),
    (f"after={MISSING.replace('-', '')}", "after"),
    ("name=a%00b", "name"),
    ("queue=%00", "queue"),
    ("Status=failed", "Status"),
    ("page=2&offset=10", "offset, page"),
    ("token=abc", "token"),
]


@pytest.mark.parametrize(("query", "named"), BAD_QUERIES, ids=[it[0][:30] for it in BAD_QUERIES])
async def test_a_wrong_parameter_is_named(ada: Rest, query: str, named: str) -> None:
    """Nothing is guessed, nothing overlooked."""
    response = await ada.get(f"?{query}")
    assert (response.status_code, code_of(response)) == (400, "INVALID_ARGUMENT")
    assert named in response.json()["error"]["message"]
    assert len(response.content) < 1000


async def test_parameters_are_refused_where_none_are_known(ada: Rest) -> None:
    """On every URL below the list; the message is bounded and safe whatever was sent."""
    task_id = await finished(shelf.echo, ada)
    for method, path in urls(task_id):
        response = await ada.send(method, f"{path}?a=1&%00%FF={'x' * 1000}&{'y' * 2000}=1")
        assert (response.status_code, code_of(response)) == (400, "INVALID_ARGUMENT")
        assert ", a, " in response.json()["error"]["message"]
        assert len(response.content) < 1000
    assert await TaskExecution.objects.acount() == 1


async def test_thousands_of_parameters_are_a_400(ada: Rest) -> None:
    """Django's own limit is answered as JSON, too."""
    response = await ada.get("?" + "&".join(f"a{number}=1" for number in range(1500)))
    assert (response.status_code, code_of(response)) == (400, "INVALID_ARGUMENT")


BODIES: list[tuple[bytes, str, bool]] = [
    (b"", "", True),
    (b"", "application/json", True),
    (b"{}", "application/json", True),
    (b" { } \n", "application/json", True),
    (b"{}", "text/plain", True),
    (b'{"delay": 5}', "application/json", False),
    (b"null", "application/json", False),
    (b"[]", "application/json", False),
    (b"0", "application/json", False),
    (b"{", "application/json", False),
    (b"{" * 50_000, "application/json", False),
    (b"[" * 50_000, "application/json", False),
    (b"\xff\xfe", "application/json", False),
    (b"--x--\r\n", "multipart/form-data; boundary=x", True),
    (b"csrfmiddlewaretoken=1", "application/x-www-form-urlencoded", True),
    (b"csrfmiddlewaretoken=1&a=1", "application/x-www-form-urlencoded", False),
    (b"a=", "application/x-www-form-urlencoded", False),
    (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
        "multipart/form-data; boundary=x",
        False,
    ),
    (b"x", "multipart/form-data", False),
    (b"x" * 3_000_000, "text/plain", False),
]


@pytest.mark.parametrize(
    ("body", "media_type", "taken"), BODIES, ids=[f"{it[0][:12]!r}-{it[1][:12]}" for it in BODIES]
)
async def test_a_post_takes_no_body(ada: Rest, body: bytes, media_type: str, taken: bool) -> None:
    """An empty object is as good as none; more would ask for something that is not done."""
    task_id = await finished(shelf.echo, ada)
    response = await ada.post(f"{task_id}/retry/", data=body, content_type=media_type)
    assert response.status_code == (201 if taken else 400), response.content
    assert taken or code_of(response) == "INVALID_ARGUMENT"
    assert await TaskExecution.objects.acount() == (2 if taken else 1)


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("", "POST", "GET, HEAD"),
        ("{id}/", "DELETE", "GET, HEAD"),
        ("{id}/", "PUT", "GET, HEAD"),
        ("{id}/", "PATCH", "GET, HEAD"),
        ("{id}/events/", "POST", "GET, HEAD"),
        ("{id}/cancel/", "GET", "POST"),
        ("{id}/cancel/", "OPTIONS", "POST"),
        ("{id}/retry", "GET", "POST"),
    ],
)
async def test_other_methods_get_those_that_are_allowed(
    anonymous: Rest, path: str, method: str, allowed: str
) -> None:
    """405 with `Allow`, before anything else is looked at."""
    response = await anonymous.send(method, path.format(id=MISSING))
    assert (response.status_code, code_of(response)) == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["Allow"] == allowed


# --- credentials ---------------------------------------------------------------------------------


def bearer(token: str) -> dict[str, Any]:
    return {"headers": {"authorization": f"Bearer {token}"}}


def signed(**claims: Any) -> str:
    import jwt

    return jwt.encode({"exp": 4_000_000_000, **claims}, JWT_KEY, "HS256")


async def test_a_bearer_says_who_is_calling(configure: Configure, anonymous: Rest) -> None:
    """On reads and changes alike, and nothing else is asked for."""
    configure(jwt={"key": JWT_KEY, "algorithms": ["HS256"]})
    ada = Rest(await User.objects.acreate(username="ada"))
    assert ada.user is not None
    ada.client.handler.enforce_csrf_checks = True
    credential = bearer(signed(sub=str(ada.user.pk)))
    task_id = await finished(shelf.echo, ada)
    assert (await ada.get("", **credential)).json()["results"][0]["id"] == task_id
    assert (await ada.post(f"{task_id}/retry/", **credential)).status_code == 201
    assert (await anonymous.get(f"{task_id}/")).status_code == 404


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "x" * 20_000])
@pytest.mark.parametrize("configured", [True, False])
async def test_a_bad_bearer_is_a_401_everywhere(
    ada: Rest, configure: Configure, token: str, configured: bool
) -> None:
    """A session that comes along does not help; every URL answers alike."""
    if configured:
        configure(jwt={"key": JWT_KEY, "algorithms": ["HS256"]})
    task_id = await finished(shelf.echo, ada)
    answers = []
    for method, path in [("GET", ""), *urls(task_id), ("GET", "no/such/url")]:
        response = await ada.send(method, path, **bearer(token))
        assert response.headers["WWW-Authenticate"] == "Bearer"
        answers.append((response.status_code, response.content))
    assert len(set(answers)) == 1
    assert (answers[0][0], json.loads(answers[0][1])["error"]["code"]) == (401, "UNAUTHENTICATED")
    assert await TaskExecution.objects.acount() == 1


async def test_an_anonymous_caller_is_a_401_where_access_is_denied(
    ada: Rest, anonymous: Rest, configure: Configure
) -> None:
    """For everything, an ownerless task's id too; users with a session go on as before."""
    task_id = await finished(shelf.echo)
    configure(anonymous_access="deny")
    for method, path in [("GET", ""), *urls(task_id), *urls("no-id"), ("GET", "no/such/url")]:
        response = await anonymous.send(method, path)
        assert (response.status_code, code_of(response)) == (401, "UNAUTHENTICATED")
    assert (await ada.get("")).status_code == 200
    assert (await ada.get(f"{task_id}/")).status_code == 404


# --- CSRF ----------------------------------------------------------------------------------------


async def strict(name: str = "ada") -> Rest:
    """A user with a session, whose requests are checked as a browser's are."""
    rest = await logged_in(name)
    rest.client.handler.enforce_csrf_checks = True
    return rest


async def test_a_sessions_post_needs_a_csrf_token(world: None) -> None:
    """In the header that Django's own pages use; a refusal is JSON, and changes nothing."""
    ada = await strict()
    task_id = await finished(shelf.echo, ada)
    response = await ada.post(f"{task_id}/retry/")
    assert (response.status_code, code_of(response)) == (403, "CSRF_FAILED")
    secret, other = "a" * 32, "b" * 32
    ada.client.cookies["csrftoken"] = secret
    for headers in ({}, {"x-csrftoken": other}, {"x-csrftoken": "short"}, {"x-csrftoken": ""},
                    {"x-csrftoken": secret, "origin": "https://evil.example"}):  # fmt: skip
        response = await ada.post(f"{task_id}/retry/", headers=headers)
        assert (response.status_code, code_of(response)) == (403, "CSRF_FAILED")
    assert await TaskExecution.objects.acount() == 1
    response = await ada.post(f"{task_id}/retry/", headers={"x-csrftoken": secret})
    assert response.status_code == 201
    form = {"content_type": "application/x-www-form-urlencoded"}
    body = f"csrfmiddlewaretoken={secret}".encode()
    assert (await ada.post(f"{task_id}/retry/", data=body, **form)).status_code == 201
    assert (await ada.post(f"{task_id}/retry/", data=body[:-1], **form)).status_code == 403
    assert (await ada.get(f"{task_id}/")).status_code == 200


async def test_a_refusal_is_one_line_of_the_log(
    world: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the path is: it is escaped, as in Django's own lines."""
    ada = await strict()
    response = await ada.post("1%0AForbidden%1B/retry/")
    assert (response.status_code, code_of(response)) == (403, "CSRF_FAILED")
    [record] = [it for it in caplog.records if it.name == "django.security.csrf"]
    assert record.getMessage().endswith(r"/1\nForbidden\x1b/retry/")


async def test_the_token_may_live_in_the_session(world: None, settings: Any) -> None:
    """CSRF_USE_SESSIONS reads it from the database."""
    settings.CSRF_USE_SESSIONS = True
    ada = await strict()
    task_id = await finished(shelf.echo, ada)
    assert code_of(await ada.post(f"{task_id}/retry/")) == "CSRF_FAILED"
    session = await ada.client.asession()
    await session.aset("_csrftoken", "c" * 32)
    await session.asave()
    response = await ada.post(f"{task_id}/retry/", headers={"x-csrftoken": "c" * 32})
    assert response.status_code == 201


async def test_an_anonymous_client_needs_no_token(anonymous: Rest) -> None:
    """There is no credential that a foreign page could use."""
    anonymous.client.handler.enforce_csrf_checks = True
    task_id = await finished(shelf.echo)
    assert (await anonymous.post(f"{task_id}/retry/")).status_code == 201


def by_api_key(request: HttpRequest) -> Any:
    """A project's authenticator: an API key in a header, or a cookie."""
    name = request.headers.get("x-api-key") or request.COOKIES.get("who")
    return User.objects.get(username=name) if name else None


async def test_an_authenticators_cookie_needs_a_token_and_its_header_none(
    world: None, configure: Configure
) -> None:
    """Headers that a browser sends by itself prove nothing about the page; an API key does."""
    configure(authenticator=f"{__name__}.by_api_key")
    ada = Rest(await User.objects.acreate(username="ada"))
    ada.client.handler.enforce_csrf_checks = True
    task_id = await finished(shelf.echo, ada)
    key = {"x-api-key": "ada"}
    assert (await ada.post(f"{task_id}/retry/", headers=key)).status_code == 201
    basic = {**key, "authorization": "Basic YTpi"}
    assert code_of(await ada.post(f"{task_id}/retry/", headers=basic)) == "CSRF_FAILED"
    ada.client.cookies["who"] = "ada"
    assert code_of(await ada.post(f"{task_id}/retry/")) == "CSRF_FAILED"
    ada.client.cookies["csrftoken"] = "d" * 32
    response = await ada.post(f"{task_id}/retry/", headers={"x-csrftoken": "d" * 32})
    assert response.status_code == 201


# --- too much, too early, not at all -------------------------------------------------------------


async def test_a_full_queue_and_a_rate_are_429s(ada: Rest, configure: Configure) -> None:
    """With the seconds after which to try again; no row is written."""
    task_id = await finished(shelf.echo, ada)
    configure(rate_limit="2/h")
    assert (await ada.post(f"{task_id}/retry/")).status_code == 201
    response = await ada.post(f"{task_id}/retry/")
    assert (response.status_code, code_of(response)) == (429, "RATE_LIMITED")
    assert 1 <= int(response.headers["Retry-After"]) <= 3600
    configure(max_pending_per_owner=1)
    await shelf.echo.using(owner=ada.user, delay=100).aenqueue()
    response = await ada.post(f"{task_id}/retry/")
    assert (response.status_code, code_of(response)) == (429, "QUEUE_FULL")
    assert int(response.headers["Retry-After"]) >= 1
    assert await TaskExecution.objects.acount() == 3


async def test_disabled_tasks_are_a_503_on_every_url(ada: Rest, configure: Configure) -> None:
    """Reads too, as over GraphQL."""
    task_id = await finished(shelf.echo, ada)
    configure(enabled=False)
    for method, path in [("GET", ""), *urls(task_id)]:
        response = await ada.send(method, path)
        assert (response.status_code, code_of(response)) == (503, "TASKS_DISABLED")
        assert int(response.headers["Retry-After"]) >= 1


async def test_wrong_settings_are_a_503(
    anonymous: Rest, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says what is wrong with them; the client does not hear of it."""
    configure(max_workers="four")
    for path in ("", f"{MISSING}/"):
        response = await anonymous.get(path)
        assert (response.status_code, code_of(response)) == (503, "BACKEND_UNAVAILABLE")
        assert "max_workers" not in response.content.decode()
    assert "max_workers" in caplog.text


def test_a_database_that_does_not_answer_is_a_503(
    database: object, configure: Configure, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a word about where it is."""
    config = database_config("sqlite", f"sqlite:///{tmp_path}/missing/db.sqlite3")
    with default_database(config):
        response = Client().get(f"{ROOT}{MISSING}/")
    conform("GET", f"{ROOT}{MISSING}/", response)
    assert (response.status_code, code_of(response)) == (503, "BACKEND_UNAVAILABLE")
    assert str(tmp_path) not in response.content.decode()
    assert "unable to open database" in caplog.text


async def test_an_unforeseen_error_is_sent_without_its_details(
    anonymous: Rest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    settings: Any,
) -> None:
    """They are in the log, in DEBUG too."""

    async def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("secret: the password is hunter2")

    monkeypatch.setattr(service, "aget", broken)
    settings.DEBUG = True
    with caplog.at_level(logging.ERROR, "rail_async_tasks.rest"):
        response = await anonymous.get(f"{MISSING}/")
    assert response.status_code == 500
    assert response.json() == {
        "error": {"code": "INTERNAL_ERROR", "message": "Internal server error."}
    }
    assert "hunter2" in caplog.text


async def test_a_multipart_form_without_boundary_is_a_400(ada: Rest) -> None:
    """Attack: a session's POST whose form Django cannot read."""
    task_id = await finished(shelf.echo, ada)
    ada.client.handler.enforce_csrf_checks = True
    response = await ada.post(f"{task_id}/retry/", data=b"x=1", content_type="multipart/form-data")
    assert (response.status_code, code_of(response)) == (400, "INVALID_ARGUMENT")
