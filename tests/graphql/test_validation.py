"""A document is validated once for a schema, its rules and its limits; no rule is ever left out.

Counts validations; measures no time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import strawberry
from django.test import AsyncRequestFactory
from graphql import GraphQLError, ValidationRule, parse
from strawberry.extensions import (
    AddValidationRules,
    DisableValidation,
    MaxTokensLimiter,
    SchemaExtension,
)
from strawberry.schema import schema as strawberry_schema

from rail_async_tasks.graphql import TaskGraphQLConsumer, TaskGraphQLView, TaskSchema, documents
from tests.support.api import Api, Configure
from tests.support.sockets import Socket

SHELVES = "{ shelves }"
GOOD = {"data": {"shelves": 3}}


@strawberry.type
class Query:
    @strawberry.field
    def shelves(self) -> int:
        return 3


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins without documents."""
    monkeypatch.setattr(documents, "_kept", documents._Kept())


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The schemas that documents are validated for, by all rules."""
    seen: list[Any] = []
    real = strawberry_schema.validate_document

    def validate(schema: Any, document: Any, rules: Any) -> Any:
        seen.append(schema)
        return real(schema, document, rules)

    monkeypatch.setattr(strawberry_schema, "validate_document", validate)
    return seen


async def send(schema: Any, query: str = SHELVES) -> Any:
    """The answer of our view over a schema of the project's."""
    request = AsyncRequestFactory().post(
        "/", json.dumps({"query": query}), content_type="application/json"
    )
    return json.loads((await TaskGraphQLView.as_view(schema=schema)(request)).content)


def messages(answer: Any) -> list[str]:
    return [error["message"] for error in answer["errors"]]


class Closed(ValidationRule):
    """Refuses every operation while the shop is closed, which neither schema nor document says."""

    def enter_operation_definition(self, *_: Any) -> None:
        if closed.get():
            self.report_error(GraphQLError("The shop is closed."))


closed: ContextVar[bool] = ContextVar("closed", default=False)


def rule_of_this_request() -> type[ValidationRule]:
    """A rule made anew for each request, as `QueryDepthLimiter` makes its own."""
    return type("OfThisRequest", (Closed,), {})


class AddedLate(SchemaExtension):
    """Adds its rule when validation begins, after most extensions have looked."""

    def on_validate(self) -> Iterator[None]:
        self.execution_context.validation_rules += (Closed,)
        yield


class WithItsOwnExtensions(TaskSchema):
    """Adds an extension behind those that it was given."""

    def get_extensions(self, sync: bool = False) -> list[SchemaExtension]:
        return [*super().get_extensions(sync), AddedLate()]


KINDS = pytest.mark.parametrize("kind", [TaskSchema, strawberry.Schema])


@KINDS
async def test_a_document_is_validated_once(kind: Any, validated: list[Any]) -> None:
    """By our schema class and by Strawberry's; each text for itself."""
    schema = kind(Query)
    for _ in range(3):
        assert await send(schema) == GOOD
    assert len(validated) == 1
    assert await send(schema, "{ shelves } # another") == GOOD
    assert len(validated) == 2


async def test_a_document_is_validated_once_over_a_websocket(
    configure: Configure, validated: list[Any]
) -> None:
    """A client that subscribes to the same again and again costs one validation."""
    configure()
    socket = Socket(application=TaskGraphQLConsumer.as_asgi(schema=TaskSchema(Query)))
    await socket.ready()
    for id_ in ("a", "b"):
        await socket.subscribe(SHELVES, id_)
        assert (await socket.receive())["payload"] == GOOD
        assert (await socket.receive())["type"] == "complete"
    await socket.leave()
    assert len(validated) == 1


@KINDS
async def test_an_invalid_document_is_refused_each_time(kind: Any, validated: list[Any]) -> None:
    """Only what was found valid is known."""
    schema = kind(Query)
    answers = [await send(schema, "{ shelves doors }") for _ in range(2)]
    assert messages(answers[0]) == ["Cannot query field 'doors' on type 'Query'."]
    assert answers[0] == answers[1]
    assert len(validated) == 2


async def test_another_schema_validates_anew(validated: list[Any]) -> None:
    """What one schema has is unknown to another."""

    @strawberry.type
    class Other:
        doors: int = 2

    first, second = TaskSchema(Query), TaskSchema(Other)
    assert await send(first) == GOOD
    for _ in range(2):
        assert messages(await send(second)) == ["Cannot query field 'shelves' on type 'Other'."]
    assert await send(first) == GOOD
    assert len(validated) == 3


@KINDS
@pytest.mark.parametrize(
    "extension",
    [
        lambda: AddValidationRules([Closed]),
        lambda: AddValidationRules([rule_of_this_request()]),
        AddedLate,
    ],
    ids=["a rule of the project's", "a rule of each request", "a rule that is added late"],
)
async def test_a_rule_of_the_project_s_runs_at_every_request(kind: Any, extension: Any) -> None:
    """It may look at more than the document: a valid one is refused where the rule says so."""
    schema = kind(Query, extensions=[extension])
    for _ in range(2):
        assert await send(schema) == GOOD
    token = closed.set(True)
    assert messages(await send(schema)) == ["The shop is closed."]
    closed.reset(token)
    assert await send(schema) == GOOD


async def test_a_rule_of_an_extension_behind_all_others_runs() -> None:
    """A schema class may add extensions of its own."""
    schema = WithItsOwnExtensions(Query)
    assert await send(schema) == GOOD
    closed.set(True)
    assert messages(await send(schema)) == ["The shop is closed."]


async def test_a_rule_of_one_schema_is_not_asked_for_another() -> None:
    """Two schemas over the same types, one with a rule: neither knows what the other found."""
    open_, guarded = TaskSchema(Query), TaskSchema(Query, extensions=[AddedLate])
    closed.set(True)
    assert await send(open_) == GOOD
    assert messages(await send(guarded)) == ["The shop is closed."]
    assert await send(open_) == GOOD


async def test_introspection_is_refused_once_it_is_off(api: Api, configure: Configure) -> None:
    """A document that was valid while the setting allowed it."""
    text = '{ __type(name: "Query") { name } }'
    configure(introspection=True)
    assert await api.send(text) == {"data": {"__type": {"name": "Query"}}}
    configure(introspection=False)
    schema = TaskSchema(Query)
    for _ in range(2):
        (said,) = messages(await send(schema, text))
        assert said.startswith("GraphQL introspection has been disabled")
    configure(introspection=True)
    assert await send(schema, text) == {"data": {"__type": {"name": "Query"}}}
    configure(introspection=False)
    (said,) = messages(await send(schema, text))
    assert said.startswith("GraphQL introspection has been disabled")


async def test_other_limits_validate_anew(configure: Configure, validated: list[Any]) -> None:
    """And refuse what they do not allow, although it is known."""
    schema = TaskSchema(Query)
    for limits in ({}, {"depth": 7}):
        configure(limits=limits)
        for _ in range(2):
            assert await send(schema) == GOOD
    assert len(validated) == 2
    configure(limits={"tokens": 2})
    assert "tokens" in messages(await send(schema))[0]


@KINDS
async def test_what_an_extension_left_unvalidated_is_not_known(kind: Any) -> None:
    """Validation that one request has switched off is not switched off for the next."""
    off: ContextVar[bool] = ContextVar("off", default=True)

    class Sometimes(DisableValidation):
        def on_operation(self) -> Iterator[None]:
            if off.get():
                yield from super().on_operation()
            else:
                yield

    schema = kind(Query, extensions=[Sometimes])
    invalid = "{ shelves shelves(x: 1) }"
    assert "errors" not in await send(schema, invalid)
    off.set(False)
    assert messages(await send(schema, invalid))


@KINDS
async def test_a_document_that_an_extension_puts_in_place_is_validated(
    kind: Any, validated: list[Any]
) -> None:
    """What is known of the text is not known of another document."""

    class Another(SchemaExtension):
        def on_parse(self) -> Iterator[None]:
            self.execution_context.graphql_document = parse("{ doors }")
            yield

    assert await send(kind(Query)) == GOOD
    schema = kind(Query, extensions=[Another])
    for _ in range(2):
        assert messages(await send(schema)) == ["Cannot query field 'doors' on type 'Query'."]


@KINDS
async def test_an_extension_s_limit_of_tokens_holds(kind: Any) -> None:
    """The kept document was parsed without it."""
    assert await send(kind(Query)) == GOOD
    schema = kind(Query, extensions=[lambda: MaxTokensLimiter(max_token_count=2)])
    for _ in range(2):
        (said,) = messages(await send(schema))
        assert "more than 2 tokens" in said.replace("that", "than")
