"""Which subscriptions may be executed once for all their subscribers."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import pytest
import strawberry
from django.contrib.auth.models import AnonymousUser
from strawberry.directive import DirectiveLocation, DirectiveValue
from strawberry.extensions import SchemaExtension
from strawberry.extensions.field_extension import FieldExtension
from strawberry.tools import create_type
from strawberry.types import get_object_definition

from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.graphql import Query, Subscription, TaskSchema
from rail_async_tasks.graphql.limited import served
from rail_async_tasks.graphql.plans import plan_of
from rail_async_tasks.graphql.shared import NotShared, payloads

FOLLOW = "subscription F($id: ID!) { taskProgress(taskId: $id) { status } }"
SHOUT = "subscription($id: ID!) { taskProgress(taskId: $id) { status @shout } }"


@strawberry.directive(locations=[DirectiveLocation.FIELD])
def shout(value: DirectiveValue[str]) -> str:
    return value.upper()


class Extension(SchemaExtension):
    """A project's own."""


class OwnSchema(TaskSchema):
    """A project's own."""


@strawberry.type
class Tick:
    status: str = "ticking"


@strawberry.type
class OwnSubscription(Subscription):
    @strawberry.subscription
    async def ticks(self) -> AsyncGenerator[Tick, None]:
        yield Tick()


def schema(kind: Any = strawberry.Schema, **options: Any) -> Any:
    return served(kind(Query, subscription=Subscription, **options))


@pytest.mark.parametrize(
    ("document", "times"),
    [
        (FOLLOW, 0),
        ("subscription($id: ID!) { taskUpdated(taskId: $id) { a: result b: result } }", 2),
        (
            "subscription { myTaskUpdates { __typename ...A } } fragment A on TaskExecution { id }",
            0,
        ),
        ('subscription { taskProgress(taskId: "1") { id @skip(if: false) } }', 0),
    ],
)
@pytest.mark.parametrize("kind", [strawberry.Schema, TaskSchema])
def test_what_is_shared(kind: Any, document: str, times: int) -> None:
    """One field of ours in a schema without anything of the project's that sees its events."""
    plan = plan_of(schema(kind), document, None)
    assert plan is not None
    assert plan.times == times


def test_the_plan_of_a_document_is_kept() -> None:
    """It is what subscribers have in common."""
    one = schema()
    assert plan_of(one, FOLLOW, None) is plan_of(one, FOLLOW, None)
    assert plan_of(one, FOLLOW, "F") is not plan_of(one, FOLLOW, None)
    assert plan_of(one, FOLLOW, None) is not plan_of(schema(), FOLLOW, None)


@pytest.mark.parametrize(
    "options",
    [
        {"extensions": [Extension]},
        {"kind": OwnSchema},
        {"scalar_overrides": {datetime: strawberry.scalar(name="At", serialize=str)}},
    ],
    ids=["extension", "class", "scalar"],
)
def test_a_schema_of_the_projects_own(options: dict[str, Any]) -> None:
    """With code that may read who the subscriber is."""
    assert plan_of(schema(**options), FOLLOW, None) is None


@pytest.mark.parametrize(
    "document",
    [
        SHOUT,
        "{ tasks { id } }",
        "subscription { __typename }",
        "subscription { taskProgress(taskId: 1) { nothing } }",
        "subscription {",
        "subscription A { myTaskUpdates { id } } query B { __typename }",
        "subscription { ...A } fragment A on Subscription { myTaskUpdates { id } }",
        f"{FOLLOW} # {'x' * 5000}",
    ],
)
def test_what_is_not_shared(document: str) -> None:
    """Each subscriber's own execution reads it, or reports what is wrong with it."""
    assert plan_of(schema(directives=[shout]), document, None) is None


def test_a_field_of_the_projects_own() -> None:
    """Beside ours."""
    one = served(strawberry.Schema(Query, subscription=OwnSubscription))
    assert plan_of(one, "subscription { ticks { status } }", None) is None
    assert plan_of(one, FOLLOW, None) is not None


class FieldOnly(FieldExtension):
    """A project's own."""


@pytest.mark.parametrize("extensions", [[], [FieldOnly()]], ids=["ours", "extended"])
def test_a_field_of_ours_that_the_project_extends(extensions: list[FieldExtension]) -> None:
    """As `permission_classes` do, by an extension."""
    fields = get_object_definition(Subscription, strict=True).fields
    field = copy.copy(next(it for it in fields if it.python_name == "task_progress"))
    field.extensions += extensions
    root = create_type("Subscription", [field])
    one = served(strawberry.Schema(Query, subscription=root))
    assert (plan_of(one, FOLLOW, None) is None) is bool(extensions)


async def test_an_error_of_the_decision_is_none_of_the_subscriber() -> None:
    """Their own execution reports what is wrong."""
    context = RequestContext(request=None, response=None, user=AnonymousUser())  # type: ignore[arg-type]
    name: Any = ["F"]  # no name, and nothing that can be looked up
    with pytest.raises(NotShared):
        await anext(payloads(schema(), context, FOLLOW, {}, name))


def test_the_task_of_a_document() -> None:
    """By a variable or written out, if it is a string; else the execution finds it."""
    plan = plan_of(schema(), FOLLOW, None)
    assert plan is not None
    assert [plan.task_id(it) for it in ({"id": "7"}, {"id": 7}, {}, None)] == [
        "7",
        None,
        None,
        None,
    ]
    literal = plan_of(schema(), 'subscription { taskProgress(taskId: "8") { id } }', None)
    assert literal is not None
    assert literal.task_id({}) == "8"
