"""The HTTP endpoint: what it takes, what it refuses, and who is calling."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.utils.functional import SimpleLazyObject

from tests.support.api import Api, Configure

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

GOOD = {"query": "{ shelves }"}


async def test_a_query(api: Api) -> None:
    """POST with JSON, with parameters in the media type too; GET with a query."""
    assert await api.send("{ shelves }") == {"data": {"shelves": 3}}
    response = await api.post(GOOD, content_type="application/json; charset=utf-8")
    assert response.json() == {"data": {"shelves": 3}}
    response = await api.client.get("/graphql/", {"query": "{ shelves }"})
    assert response.json() == {"data": {"shelves": 3}}


async def test_no_csrf_token_is_asked_for(configure: Configure) -> None:
    """Only JSON is taken, which a foreign page cannot post without a preflight."""
    configure()
    client = AsyncClient(enforce_csrf_checks=True)
    response = await client.post("/graphql/", json.dumps(GOOD), content_type="application/json")
    assert response.json() == {"data": {"shelves": 3}}


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "text/plain;a=application/json",
        "application/json-seq",
        "",
    ],
)
async def test_no_other_media_type_is_taken(api: Api, media_type: str) -> None:
    """Above all none that a form of a foreign page can send."""
    response = await api.post(json.dumps(GOOD).encode(), content_type=media_type)
    assert response.status_code == 415
    assert response.json() == {"errors": [{"message": "POST takes application/json only."}]}


BAD_BODIES = [
    b" ",
    b"{",
    b"null",
    b"1",
    b'"text"',
    b"true",
    b"[]",
    b'[{"query": "{ shelves }"}]',
    b"{}",
    b'{"query": null}',
    b'{"query": 3}',
    b'{"query": ["{ shelves }"]}',
    b'{"query": ""}',
    b'{"query": "{ shelves }", "variables": []}',
    b'{"query": "{ shelves }", "variables": "x"}',
    b'{"query": "{ shelves }", "extensions": 1}',
    b'{"query": "{ shelves }", "operationName": "Missing"}',
    b'{"query": "{ shelves }", "operationName": ["x"]}',
    b'{"query": "{ shelves }", "operationName": {"a": 1}}',
    b'{"query": "\xff"}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"query": "{ shelves }", "variables": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=[repr(it[:40]) for it in BAD_BODIES])
async def test_a_malformed_request_is_a_400(api: Api, body: bytes) -> None:
    """Never a 500: whatever the bytes are, the answer is a client error."""
    response = await api.post(body)
    assert response.status_code == 400
    assert response.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    "query",
    ["{" * 3_000, "{ a" + "{ a" * 3_000 + "}" * 3_001, "\x00", "\ud800", "# only a comment"],
    ids=["open", "deep", "nul", "surrogate", "comment"],
)
async def test_a_query_that_cannot_be_parsed_is_an_error(api: Api, query: str) -> None:
    """It is answered, in 200 or 400, with errors and without a traceback in the text."""
    response = await api.post({"query": query})
    assert response.status_code in (200, 400)
    assert response.json()["errors"]


async def test_nothing_changes_by_get(api: Api) -> None:
    """Links and images must not start tasks."""
    for accept in ("*/*", "application/graphql-response+json", "text/event-stream"):
        response = await api.client.get(
            "/graphql/",
            {"query": "mutation { add(a: 1) { taskId } }"},
            headers={"accept": accept},
        )
        assert (response.status_code, response.headers["Allow"]) == (405, "GET, POST")
        assert "mutations are not allowed" in response.json()["errors"][0]["message"]


async def test_a_body_that_is_too_large_is_a_413(api: Api, settings: Any) -> None:
    """In JSON like any other refusal, and with the name of Django's setting."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    response = await api.post({"query": "{ shelves }" + " " * 100})
    assert response.status_code == 413
    assert "DATA_UPLOAD_MAX_MEMORY_SIZE" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
async def test_other_methods_are_refused(api: Api, method: str) -> None:
    """GET and POST are all that GraphQL has."""
    response = await getattr(api.client, method)("/graphql/")
    assert (response.status_code, response.headers["Allow"]) == (405, "GET, POST")


@pytest.mark.parametrize("method", ["post", "get"])
async def test_a_subscription_without_sse_is_explained(
    api: Api, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A plain request cannot stream; its answer names a way that can. Others are not affected."""
    query = {"query": "subscription { myTaskUpdates { id } }"}
    ask = api.post(query) if method == "post" else api.client.get("/graphql/", query)
    response = await ask
    assert response.status_code == 406
    assert "text/event-stream" in response.json()["errors"][0]["message"]
    assert [it for it in caplog.records if it.levelname == "ERROR" or it.exc_info] == []


async def test_a_body_without_a_query_is_refused(api: Api) -> None:
    response = await api.post({"variables": {}})
    assert response.status_code == 400
    assert "no GraphQL query" in response.json()["errors"][0]["message"]


async def test_a_stream_is_left_alone_by_gzip(api: Api, settings: Any) -> None:
    """Compression would hold events back until the buffer is full."""
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    response = await AsyncClient().post(
        "/graphql/",
        json.dumps({"query": "subscription { myTaskUpdates { id } }"}),
        content_type="application/json",
        headers={"accept": "text/event-stream", "accept-encoding": "gzip"},
    )
    assert response["Content-Encoding"] == "identity"
    assert response["Content-Type"] == "text/event-stream"
    assert {"no-store", "no-transform"} <= set(response["Cache-Control"].split(", "))
    assert b"event: complete" in b"".join([chunk async for chunk in response.streaming_content])


async def test_a_broken_schema_is_a_503(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The client learns that it is not its fault; the log and, in DEBUG, the answer say more."""
    settings.RAIL_DJANGO_GRAPHQL = {
        "schema_settings": {"query_extensions": ["tests.projects.shop.Missing"]}
    }
    response = await Api().post(GOOD)
    assert response.status_code == 503
    (error,) = response.json()["errors"]
    assert error["extensions"] == {"code": "BACKEND_UNAVAILABLE"}
    assert "shop" not in error["message"]
    assert "tests.projects.shop.Missing" in caplog.text
    settings.DEBUG = True
    assert "tests.projects.shop.Missing" in (await Api().post(GOOD)).content.decode()


@ONE_DATABASE
async def test_the_caller_is_the_sessions_user(api: Api, database: object) -> None:
    """A task belongs to who started it, and is theirs alone to list."""
    ada = await User.objects.acreate(username="ada")
    anonymous = await api.send("mutation { whoami { task { result ownerId } } }")
    assert anonymous["data"]["whoami"]["task"] == {
        "result": {"user": "", "tenant": None},
        "ownerId": None,
    }
    assert (await api.send("{ tasks { id } }"))["data"] == {"tasks": []}
    await api.client.aforce_login(ada)
    mine = await api.send("mutation { whoami { task { id result ownerId } } }")
    task = mine["data"]["whoami"]["task"]
    assert (task["result"]["user"], task["ownerId"]) == ("ada", str(ada.pk))
    assert (await api.send("{ tasks { id } }"))["data"] == {"tasks": [{"id": task["id"]}]}


class GateKeeper:
    """A middleware of a project: its own lazy user, its own tenant."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Any) -> None:
        from asgiref.sync import markcoroutinefunction

        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        name = request.headers["x-user"]
        request.user = SimpleLazyObject(lambda: User.objects.get(username=name))  # type: ignore[assignment]
        request.tenant_id = 42  # type: ignore[attr-defined]
        response: HttpResponse = await self.get_response(request)
        return response


@ONE_DATABASE
async def test_a_projects_own_middleware_says_who_is_calling(
    api: Api, settings: Any, database: object
) -> None:
    """The values of `request.user` and `request.tenant_id` count, however they got there."""
    await User.objects.acreate(username="grace")
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.GateKeeper"]
    client = AsyncClient()
    response = await client.post(
        "/graphql/",
        json.dumps({"query": "mutation { whoami { task { result } } }"}),
        content_type="application/json",
        headers={"x-user": "grace"},
    )
    result = response.json()["data"]["whoami"]["task"]["result"]
    assert result == {"user": "grace", "tenant": "42"}


@ONE_DATABASE
async def test_the_payload_of_a_task_that_failed_inline(api: Api, database: object) -> None:
    """Run inline, a failed task's status and error stand in the answer itself, for its owner."""
    await api.client.aforce_login(await User.objects.acreate(username="ada"))
    answer = await api.send("mutation { fall { status error task { errorCode } } }")
    assert answer["data"]["fall"] == {
        "status": "failed",
        "error": "it broke",
        "task": {"errorCode": "exception"},
    }


@ONE_DATABASE
async def test_queries_filters_and_pages(api: Api, database: object) -> None:
    """`tasks` is newest first, by status, name and queue, page by page; bad filters are refused."""
    await api.client.aforce_login(await User.objects.acreate(username="ada"))
    for number in range(3):
        await api.send(f"mutation {{ add(a: {number}) {{ taskId }} }}")
    await api.send("mutation { fall { taskId } }")
    names = [it["name"] for it in (await api.send("{ tasks { name } }"))["data"]["tasks"]]
    assert names == ["fall", "add", "add", "add"]
    for arguments, count in (
        ('status: "failed"', 1),
        ('name: "add"', 3),
        ('queue: "low"', 0),
        ("status: null, limit: null", 4),
        ("limit: 2", 2),
    ):
        answer = await api.send(f"{{ tasks({arguments}) {{ id result }} }}")
        assert len(answer["data"]["tasks"]) == count, arguments
    after = answer["data"]["tasks"][-1]["id"]
    rest = await api.send("query($a: ID) { tasks(after: $a) { result } }", {"a": after})
    assert [it["result"] for it in rest["data"]["tasks"]] == [3, 2]
    for arguments in ('status: "no"', "limit: 0", "limit: 501", 'after: "no"'):
        (error,) = (await api.send(f"{{ tasks({arguments}) {{ id }} }}"))["errors"]
        assert error["extensions"]["code"] == "INVALID_ARGUMENT"


@ONE_DATABASE
async def test_cancel_and_retry(api: Api, database: object) -> None:
    """A finished task cannot be cancelled; run again it is a new one that names its parent."""
    answer = await api.send("mutation { add(a: 1) { taskId } }")
    variables = {"id": answer["data"]["add"]["taskId"]}
    cancelled = await api.send("mutation($id: ID!) { cancelTask(id: $id) { id } }", variables)
    assert cancelled["errors"][0]["extensions"] == {"code": "ALREADY_FINAL"}
    retried = await api.send(
        "mutation($id: ID!) { retryTask(id: $id) { taskId status task { parentId result } } }",
        variables,
    )
    payload = retried["data"]["retryTask"]
    assert payload["task"] == {"parentId": variables["id"], "result": 3}
    assert payload["taskId"] != variables["id"]


def test_a_browser_gets_the_console(configure: Configure) -> None:
    """A page that loads its own two files and nothing else, from wherever it is mounted."""
    configure(console=True)
    client = Client()
    page = client.get("/graphql/", headers={"accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 200
    assert page["Content-Type"] == "text/html; charset=utf-8"
    text = page.content.decode()
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sorted(links) == ["console.css", "console.js", "data:,"]
    assert "<style" not in text
    assert not re.search(r"\son\w+=", text)
    for name in ("console.css", "console.js"):
        asset = client.get(f"/graphql/{name}")
        assert asset.status_code == 200
        addresses = re.findall(r"(?:https?|wss?):?//[^`\s]*", asset.content.decode())
        assert addresses == []
        again = client.get(f"/graphql/{name}", headers={"if-none-match": asset["ETag"]})
        assert again.status_code == 304
    assert client.get("/graphql/console.html").status_code == 404
    assert client.get("/graphql/__init__.py").status_code == 404


async def test_a_get_without_a_query_and_without_html_is_a_mistake(api: Api) -> None:
    """Without a query and without asking for HTML, GET is a mistake."""
    response = await api.client.get("/graphql/", headers={"accept": "*/*"})
    assert response.status_code == 400
