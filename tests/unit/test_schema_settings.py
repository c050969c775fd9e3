"""`schema_settings` beyond the merged types: right values, and the message of each mistake."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import strawberry
from django.test import override_settings
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig

from rail_async_tasks import checks
from rail_async_tasks.conf import SchemaSettings, parse, parse_schema_settings


def test_right_values() -> None:
    """Typed as the package reads them."""
    settings, found = parse_schema_settings(
        {
            "extensions": ["shop.schema.Timing"],
            "config": "shop.schema.config",
            "rename": {"tasks": "backgroundTasks", "cancelTask": None},
        }
    )
    assert found == []
    assert settings == SchemaSettings(
        extensions=("shop.schema.Timing",),
        config="shop.schema.config",
        rename={"tasks": "backgroundTasks", "cancelTask": None},
    )
    settings, found = parse_schema_settings({"schema": "shop.schema.schema", "rename": {}})
    assert (settings, found) == (SchemaSettings(schema="shop.schema.schema"), [])


@pytest.mark.parametrize(
    ("raw", "id_", "key", "hint"),
    [
        ({"rename": ["tasks"]}, "E003", "rename", '{"tasks": "backgroundTasks"'),
        ({"rename": {"task_s": "a"}}, "E002", "rename.task_s", 'Did you mean "tasks"?'),
        ({"rename": {"taskExecution": "A"}}, "E002", "rename.taskExecution", '"TaskExecution"?'),
        ({"rename": {"zzz": "a"}}, "E002", "rename.zzz", "are: TaskExecution, TaskMutationPayload"),
        ({"rename": {3: "a"}}, "E002", "rename.3", "Our fields and types are"),
        ({"rename": {"TaskExecution": None}}, "E003", "rename.TaskExecution", "Only a field"),
        ({"rename": {"tasks": 3}}, "E003", "rename.tasks", "None to leave the field out"),
        ({"rename": {"tasks": "my tasks"}}, "E006", "rename.tasks", "letters, digits"),
        ({"rename": {"tasks": "__tasks"}}, "E006", "rename.tasks", 'no "__" first'),
        ({"rename": {"tasks": ""}}, "E006", "rename.tasks", "letters"),
        ({"rename": {"tasks": "task"}}, "E009", "rename.tasks", '"task" would be called "task"'),
        ({"rename": {"TaskExecution": "TaskMutationPayload"}}, "E009", "rename.TaskExecution", "t"),
        ({"schema": "schema"}, "E006", "schema", "with dots"),
        ({"schema": 3}, "E003", "schema", "None: the schema that this package merges"),
        ({"extensions": "shop.Timing"}, "E003", "extensions", "Write a list"),
        ({"extensions": [int]}, "E003", "extensions.0", "as text"),
        ({"config": "shop"}, "E006", "config", "None: Strawberry's defaults"),
        ({"schema": "a.b", "extensions": ["c.d"]}, "E009", "extensions", "Give it to a.b"),
        ({"schema": "a.b", "config": "c.d"}, "E009", "config", "Give it to a.b"),
        ({"schema": "a.b", "query_extensions": ["c.D"]}, "E009", "query_extensions", "remove"),
    ],
)
def test_each_mistake(raw: Any, id_: str, key: str, hint: str) -> None:
    """One problem, with its place and a remedy; the settings are refused."""
    settings, (problem,) = parse_schema_settings(raw)
    assert settings is None
    assert (problem.id, problem.key) == (f"rail_async_tasks.{id_}", key)
    assert problem.message.startswith("schema_settings[")
    assert hint in problem.hint


def test_two_fields_may_change_places() -> None:
    """Names are compared as they are in the end; of different types they may be alike."""
    for rename in (
        {"task": "tasks", "tasks": "task"},
        {"tasks": "again", "retryTask": "again"},
        {"task": None, "tasks": "task"},
    ):
        settings, found = parse_schema_settings({"rename": rename})
        assert found == []
        assert settings is not None


def test_keys_at_another_level() -> None:
    """Ours are found in `task_settings`; general words at the root belong to other packages."""
    found = parse({"task_settings": {"rename": {}, "schema": "a.b"}}).problems
    assert {problem.key for problem in found} == {"rename", "schema"}
    assert all('Move it into RAIL_DJANGO_GRAPHQL["schema' in problem.hint for problem in found)
    assert parse({"schema": 1, "extensions": [], "config": {}, "rename": 3}).problems == ()
    (problem,) = parse({"schema_settings": {"renames": {}}}).problems
    assert (problem.level, problem.hint) == ("warning", 'Did you mean "rename"?')


@pytest.mark.parametrize("value", ["yes", 1])
@pytest.mark.parametrize("key", ["introspection", "console"])
def test_switches(key: str, value: Any) -> None:
    """True, False or None."""
    (problem,) = parse({"task_settings": {key: value}}).problems
    assert problem.id == "rail_async_tasks.E003"
    assert "None: as DEBUG" in problem.hint
    for right in (True, False, None):
        assert parse({"task_settings": {key: right}}).problems == ()


# --- the checks, which import ---------------------------------------------------------------------


@strawberry.type
class Query:
    shelves: int = 3


def make_extension() -> SchemaExtension:
    return SchemaExtension()


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `own_shop` of the project."""
    made: Any = types.ModuleType("own_shop")
    made.schema = strawberry.Schema(query=Query)
    made.Timing = SchemaExtension
    made.instance = SchemaExtension()
    made.factory = make_extension
    made.config = StrawberryConfig()
    made.Query = Query
    made.number = 3
    monkeypatch.setitem(sys.modules, "own_shop", made)


def errors(schema_settings: dict[str, Any]) -> list[Any]:
    with override_settings(RAIL_DJANGO_GRAPHQL={"schema_settings": schema_settings}):
        return [*checks.check_dotted_paths(None), *checks.check_schema(None)]


@pytest.mark.parametrize(
    "right",
    [
        {"schema": "own_shop.schema"},
        {"config": "own_shop.config"},
        {"extensions": ["own_shop.Timing", "own_shop.instance", "own_shop.factory"]},
        {"rename": {"tasks": "backgroundTasks", "TaskExecution": "Job"}},
    ],
)
def test_checks_of_right_values(right: Any) -> None:
    """Nothing is said."""
    assert errors(right) == []


@pytest.mark.parametrize(
    ("wrong", "id_", "words"),
    [
        ({"schema": "own_shop.missing"}, "E013", "cannot be imported"),
        ({"schema": "nowhere.schema"}, "E013", "cannot be imported"),
        ({"schema": "own_shop.Query"}, "E013", "is not a strawberry.Schema but Query"),
        ({"config": "own_shop.number"}, "E013", "is not a StrawberryConfig but int"),
        ({"extensions": ["own_shop.Query"]}, "E012", "is not a Strawberry schema extension"),
        ({"extensions": ["own_shop.number"]}, "E012", "is not a Strawberry schema extension"),
        ({"extensions": ["own_shop.missing"]}, "E012", "cannot be imported"),
        (
            {"rename": {"tasks": "shelves"}, "query_extensions": ["own_shop.Query"]},
            "E021",
            "the field 'shelves' is declared by",
        ),
    ],
)
def test_checks_of_wrong_values(wrong: Any, id_: str, words: str) -> None:
    """One error, once, with its place and a hint."""
    (error,) = errors(wrong)
    assert error.id == f"rail_async_tasks.{id_}"
    assert words in error.msg
    assert error.hint
