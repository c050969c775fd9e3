"""Attack: read secrets out of a resolver's errors, and out of our logs."""

from __future__ import annotations

import enum
import json
import logging
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError
from strawberry.permission import BasePermission

from rail_async_tasks import task_mutation
from rail_async_tasks.graphql import TaskSchema
from tests.support.api import Configure

CANARY = "canary-7f3a"


class Colour(enum.Enum):
    RED = "red"


strawberry.enum(Colour)


@strawberry.type
class Query:
    @strawberry.field
    def number(self) -> int:
        return CANARY  # type: ignore[return-value]

    @strawberry.field
    def share(self) -> float:
        return CANARY  # type: ignore[return-value]

    @strawberry.field
    def colour(self) -> Colour:
        return CANARY  # type: ignore[return-value]

    @strawberry.field
    def numbers(self) -> list[int]:
        return CANARY  # type: ignore[return-value]

    @strawberry.field
    def each(self) -> list[int]:
        return [1, CANARY]  # type: ignore[list-item]

    @strawberry.field
    def flag(self) -> bool:
        return CANARY  # type: ignore[return-value]

    @strawberry.field
    def raised(self) -> int:
        raise ValueError(CANARY)

    @strawberry.field
    def on_purpose(self) -> int:
        raise GraphQLError("Pay first.", extensions={"code": "UNPAID"})

    @strawberry.field
    def echo(self, text: str, number: int = 0) -> int:
        raise RuntimeError("it broke")


class Breaks(BasePermission):
    def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool:
        raise RuntimeError("the permission broke")


@task_mutation(name="masking.charge", permission_classes=[Breaks])
async def charge(card: str) -> None:
    """Never runs."""


@strawberry.type
class Mutation:
    charge = charge


SCHEMA = TaskSchema(query=Query, mutation=Mutation)
FIELDS = ("number", "share", "colour", "numbers", "each", "flag", "raised")


@pytest.mark.parametrize("field", FIELDS)
async def test_a_wrong_value_is_shown_to_no_client(
    configure: Configure, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    """Whatever raised it: a resolver, or graphql-core over what a resolver returned."""
    configure()
    with caplog.at_level(logging.DEBUG):
        result = await SCHEMA.execute(f"{{ {field} }}")
    assert result.errors is not None
    (error,) = result.errors
    assert error.formatted["message"] == "Internal server error."
    assert error.formatted["extensions"] == {"code": "INTERNAL_ERROR"}
    logged = [it.getMessage() for it in caplog.records if it.name == "strawberry.execution"]
    assert len(logged) == 1
    assert logged[0].startswith(field)
    assert field == "raised" or CANARY not in caplog.text


async def test_with_debug_a_wrong_value_is_explained(configure: Configure, settings: Any) -> None:
    """To the developer who runs it."""
    configure()
    settings.DEBUG = True
    result = await SCHEMA.execute("{ number }")
    assert result.errors is not None
    assert CANARY in result.errors[0].message


async def test_an_error_for_clients_passes(configure: Configure) -> None:
    """What a resolver raises as a GraphQLError is its message to the client."""
    configure()
    result = await SCHEMA.execute("{ onPurpose }")
    assert result.errors is not None
    assert result.errors[0].formatted["message"] == "Pay first."
    assert result.errors[0].formatted["extensions"] == {"code": "UNPAID"}


async def test_a_wrong_argument_is_the_clients_mistake(configure: Configure) -> None:
    """It reads which one, and the log does not have it."""
    configure()
    result = await SCHEMA.execute('{ echo(text: "a", number: "b") }')
    assert result.errors is not None
    assert "Int cannot represent" in result.errors[0].message


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "variable"])
@pytest.mark.parametrize("field", ["charge", "echo"])
async def test_no_argument_is_logged(
    configure: Configure, caplog: pytest.LogCaptureFixture, field: str, inline: bool
) -> None:
    """Neither of a task whose permission class raises, nor of a field that does."""
    configure()
    operation, name = ("mutation", "card") if field == "charge" else ("query", "text")
    select = " { status }" if field == "charge" else ""
    if inline:
        query = f"{operation} {{ {field}({name}: {json.dumps(CANARY)}){select} }}"
        values = None
    else:
        query = f"{operation}($v: String!) {{ {field}({name}: $v){select} }}"
        values = {"v": CANARY}
    with caplog.at_level(logging.DEBUG):
        result = await SCHEMA.execute(query, variable_values=values)
    assert result.errors is not None
    assert "broke" in caplog.text  # the accident itself is there
    assert CANARY not in caplog.text
