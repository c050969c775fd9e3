"""Errors for clients: codes for refusals, no details of accidents."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import strawberry

from rail_async_tasks import errors, service
from tests.projects import shop
from tests.support.api import Api, Configure

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

# Every refusal that the service can answer with, and what the client reads.
REFUSALS = [
    (errors.TaskNotFound(), "Task not found.", {"code": "NOT_FOUND"}),
    (errors.Unauthenticated(), "Authentication is required.", {"code": "UNAUTHENTICATED"}),
    (errors.TasksDisabled(), "Tasks are disabled.", {"code": "TASKS_DISABLED"}),
    (errors.QueueFull("Full.", retry_after=2), "Full.", {"code": "QUEUE_FULL", "retryAfter": 2}),
    (errors.RateLimited("Wait."), "Wait.", {"code": "RATE_LIMITED", "retryAfter": 1}),
    (errors.InvalidArguments("No."), "No.", {"code": "INVALID_ARGUMENT"}),
    (errors.UnknownQueue("No queue."), "No queue.", {"code": "INVALID_ARGUMENT"}),
    (errors.AlreadyFinal(), "The task has already finished.", {"code": "ALREADY_FINAL"}),
    (errors.NotFinal(), "The task has not finished yet.", {"code": "NOT_FINAL"}),
    (errors.BackendUnavailable("Down."), "Down.", {"code": "BACKEND_UNAVAILABLE"}),
    # Of another task, whose result was asked for: by an exception, and by `Fail`.
    (
        errors.TaskFailed("the password is hunter2"), "The task failed.",
        {"code": "TASK_FAILED", "errorCode": "exception"},
    ),
    (
        errors.TaskFailed("Out of stock.", declared=True), "Out of stock.",
        {"code": "TASK_FAILED", "errorCode": "exception"},
    ),
]  # fmt: skip

OPERATIONS = [
    ("aget", "{ task(id: 1) { id } }", {"task": None}),
    ("alist", "{ tasks { id } }", None),
    ("acancel", "mutation { cancelTask(id: 1) { id } }", {"cancelTask": None}),
    ("aretry", "mutation { retryTask(id: 1) { taskId } }", {"retryTask": None}),
    ("aenqueue", "mutation { add(a: 1) { taskId } }", {"add": None}),
]


@pytest.mark.covering("error", "query")
@pytest.mark.parametrize(
    ("error", "message", "extensions"), REFUSALS, ids=[type(it[0]).__name__ for it in REFUSALS]
)
@pytest.mark.parametrize(("function", "query", "data"), OPERATIONS)
async def test_a_refusal_has_its_code_and_is_not_logged(
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    function: str,
    query: str,
    data: Any,
    error: errors.TaskError,
    message: str,
    extensions: dict[str, Any],
) -> None:
    """In every query and mutation; it is an answer, so the log hears nothing."""

    async def refuse(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(service, function, refuse)
    with caplog.at_level(logging.INFO):
        answer = await api.send(query)
    assert answer["data"] == data
    (error,) = answer["errors"]
    assert (error["message"], error["extensions"]) == (message, extensions)
    assert [record for record in caplog.records if record.name.startswith("strawberry")] == []


@pytest.mark.parametrize(
    "query",
    [
        "subscription { taskProgress(taskId: 1) { id } }",
        "subscription { taskUpdated(taskId: 1) { id } }",
        "subscription { myTaskUpdates { id } }",
    ],
)
async def test_a_refused_subscription_has_the_code_too(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    """It comes as the first result, and the stream is over."""

    async def refuse(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise errors.QueueFull("Full.", retry_after=3)
        yield

    monkeypatch.setattr(service, "watch", refuse)
    monkeypatch.setattr(service, "watch_mine", refuse)
    response = await api.post({"query": query}, accept="text/event-stream")
    text = b"".join([chunk async for chunk in response.streaming_content]).decode()
    assert '"message":"Full."' in text
    assert '"extensions":{"retryAfter":3,"code":"QUEUE_FULL"}' in text
    assert text.endswith("event: complete\ndata: \n\n")
    assert [record for record in caplog.records if record.name.startswith("strawberry")] == []


async def test_resolvers_of_the_project_may_let_refusals_pass(api: Api) -> None:
    """A TaskError out of an extension's field is answered like our own."""
    (error,) = (await api.send("{ full }"))["errors"]
    assert error["extensions"] == {"code": "QUEUE_FULL", "retryAfter": 7}


async def test_an_unforeseen_error_is_logged_and_masked(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever an exception says was not meant for the client."""
    answer = await api.send("{ broken }")
    assert answer["errors"][0]["message"] == "Internal server error."
    assert answer["errors"][0]["extensions"] == {"code": "INTERNAL_ERROR"}
    assert "hunter2" not in str(answer)
    assert "hunter2" in caplog.text


async def test_an_unforeseen_error_in_a_stream_is_masked_too(api: Api) -> None:
    """Also where the first event had already gone out."""
    response = await api.post(
        {"query": "subscription { brokenStream }"}, accept="text/event-stream"
    )
    text = b"".join([chunk async for chunk in response.streaming_content]).decode()
    assert '{"data":{"brokenStream":1}}' in text
    assert '"code":"INTERNAL_ERROR"' in text
    assert "hunter2" not in text


async def test_an_unforeseen_error_is_shown_while_debugging(api: Api, settings: Any) -> None:
    """With DEBUG the developer reads it where they look."""
    settings.DEBUG = True
    answer = await api.send("{ broken }")
    assert answer["errors"][0]["message"] == "secret: the password is hunter2"


MISTAKES = [
    ("{ nothing }", None, "Cannot query field 'nothing' on type 'Query'"),
    ("{ shelves ", None, "Syntax Error"),
    ('mutation { add(a: "x") { status } }', None, "Int cannot represent non-integer value"),
    ("mutation($a: Int!) { add(a: $a) { status } }", {"a": "x"}, "Variable '$a' has invalid value"),
    (
        "mutation($o: UUID!) { pack(box: {width: 1}, order: $o) { status } }",
        {"o": "no uuid"},
        'Value cannot represent a UUID: "no uuid"',
    ),
    ('mutation { pack(box: {width: 1}, order: "no uuid") { status } }', None, "no uuid"),
]


@pytest.mark.parametrize(("query", "variables", "message"), MISTAKES)
async def test_a_mistake_of_the_client_is_explained(
    api: Api, caplog: pytest.LogCaptureFixture, query: str, variables: Any, message: str
) -> None:
    """Masking accidents must not hide what is wrong with a query; the log is not its place."""
    with caplog.at_level(logging.INFO):
        (error, *_) = (await api.send(query, variables))["errors"]
    assert message in error["message"]
    assert caplog.records == []


async def test_wrong_settings_are_not_described_to_clients(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """The code says that it is the server's fault, the log says what is wrong."""
    configure(max_retries="many")
    response = await Api().post({"query": "{ tasks { id } }"})
    assert response.status_code == 503
    (error,) = response.json()["errors"]
    assert error["extensions"] == {"code": "BACKEND_UNAVAILABLE"}
    assert "max_retries" not in error["message"]
    assert "max_retries" in caplog.text


@ONE_DATABASE
async def test_all_kinds_of_unseen_tasks_look_the_same(api: Api, database: object) -> None:
    """Foreign, missing and malformed ids answer byte for byte the same, in every field."""
    from django.contrib.auth.models import User

    owner = await User.objects.acreate(username="ada")
    other = await User.objects.acreate(username="grace")
    foreign = (await shop.add.using(owner=owner).aenqueue(a=1)).id
    await api.client.aforce_login(other)
    ids = [str(foreign), "0193b1a4-7c1e-7000-8000-000000000001", "nonsense", "", "7", "é" * 40]
    for query in (
        "query($i: ID!) { task(id: $i) { id } }",
        "mutation($i: ID!) { cancelTask(id: $i) { id } }",
        "mutation($i: ID!) { retryTask(id: $i) { taskId } }",
    ):
        answers = {(await api.post({"query": query, "variables": {"i": it}})).content for it in ids}
        assert len(answers) == 1
        assert b'"extensions":{"code":"NOT_FOUND"}' in answers.pop()
    for field in ("taskProgress", "taskUpdated"):
        query = f"subscription($i: ID!) {{ {field}(taskId: $i) {{ id }} }}"
        streams = set()
        for it in ids:
            body = {"query": query, "variables": {"i": it}}
            response = await api.post(body, accept="text/event-stream")
            streams.add(b"".join([chunk async for chunk in response.streaming_content]))
        assert len(streams) == 1
        assert b'"extensions":{"code":"NOT_FOUND"}' in streams.pop()


@ONE_DATABASE
async def test_without_anonymous_access_every_caller_needs_a_name(
    configure: Configure, database: object
) -> None:
    """Everything about tasks is UNAUTHENTICATED without a user, and works with one."""
    from django.contrib.auth.models import User

    configure(backend="sync", anonymous_access="deny")
    api = Api()
    ownerless = (await shop.add.aenqueue(a=1)).id
    for query in (
        "mutation { add(a: 1) { status } }",
        f'mutation {{ retryTask(id: "{ownerless}") {{ status }} }}',
        f'mutation {{ cancelTask(id: "{ownerless}") {{ status }} }}',
        f'{{ task(id: "{ownerless}") {{ id }} }}',
        "{ tasks { id } }",
    ):
        (error,) = (await api.send(query))["errors"]
        assert error["extensions"] == {"code": "UNAUTHENTICATED"}
    await api.client.aforce_login(await User.objects.acreate(username="ada"))
    assert (await api.send("mutation { add(a: 1) { status } }"))["data"]["add"] == {
        "status": "completed"
    }


@strawberry.type
class OwnQuery:
    nothing: int = 0


async def test_a_schema_of_the_projects_own_gets_codes_from_our_fields(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task's mutation carries its code also where the schema class is Strawberry's own."""

    async def refuse(*args: Any, **kwargs: Any) -> Any:
        raise errors.QueueFull("Full.", retry_after=2)

    configure(backend="sync")
    monkeypatch.setattr(service, "aenqueue", refuse)
    schema = strawberry.Schema(query=OwnQuery, mutation=shop.TaskMutations)
    result = await schema.execute("mutation { add(a: 1) { status } }")
    assert result.data == {"add": None}
    assert result.errors is not None
    assert result.errors[0].extensions == {"code": "QUEUE_FULL", "retryAfter": 2}
