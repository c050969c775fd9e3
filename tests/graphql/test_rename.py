"""`schema_settings["rename"]`: our fields and types under other names, or left out."""

from __future__ import annotations

from typing import Any

import pytest
import strawberry
from django.test import AsyncClient
from strawberry.tools import merge_types

from rail_async_tasks import ConfigurationError, graphql
from rail_async_tasks.conf.schema_rules import FIELDS, TYPES
from rail_async_tasks.graphql.roots import ROOTS, fields_of, graphql_name
from rail_async_tasks.graphql.schema import build_schema, get_schema
from tests.graphql.own_views import EVERY_WAY, SOCKETS, ask
from tests.graphql.test_schema import BASE, bare
from tests.projects import shop

RENAME = {
    "task": "backgroundTask",
    "tasks": "backgroundTasks",
    "cancelTask": None,
    "retryTask": "again",
    "taskProgress": "follow",
    "taskUpdated": None,
    "TaskExecution": "BackgroundTask",
    "TaskMutationPayload": "StartedTask",
}
RENAMED = """
type Mutation {
  again(id: ID!): StartedTask
  add(a: Int!, b: Int! = 2): StartedTask
"""


@strawberry.type
class OwnTasks:
    """Has the names that are ours without a rename."""

    @strawberry.field
    def tasks(self) -> list[str]:
        return ["write the docs"]

    @strawberry.field
    def task(self) -> str:
        return "write the docs"


@pytest.fixture
def renamed(settings: Any) -> None:
    set_rename(settings, RENAME)


def set_rename(settings: Any, rename: Any, **schema: Any) -> None:
    settings.RAIL_DJANGO_GRAPHQL = {
        "schema_settings": {**shop.SETTINGS["schema_settings"], **schema, "rename": rename},
        "task_settings": {"backend": "sync", "track_in_database": False, "introspection": True},
    }


def test_the_names_that_can_be_given_are_those_of_the_schema() -> None:
    """The rules of the settings know each field of a root type, and no other."""
    found = {root: tuple(map(graphql_name, fields_of(type_))) for root, type_ in ROOTS.items()}
    assert found == dict(FIELDS)
    assert all(f"type {name} " in BASE for name in TYPES)


def test_the_merged_schema(renamed: None) -> None:
    """New names everywhere, none of the old ones, and what is None is gone."""
    sdl = bare(str(get_schema()))
    assert RENAMED.strip() in sdl
    for line in (
        "  backgroundTask(id: ID!): BackgroundTask",
        "  follow(taskId: ID!): BackgroundTask!",
        "  myTaskUpdates: BackgroundTask!",
        "  task: BackgroundTask!",
    ):
        assert line in sdl.splitlines()
    assert "  ): [BackgroundTask!]!" in sdl or "backgroundTasks(" in sdl
    for gone in ("TaskExecution", "TaskMutationPayload", "cancelTask", "taskUpdated", " tasks("):
        assert gone not in sdl


def test_names_follow_the_settings(settings: Any) -> None:
    """Without a rename the schema is as ever, whichever came before."""
    set_rename(settings, {"TaskExecution": "A", "tasks": "b"})
    assert "type A {" in str(get_schema())
    settings.RAIL_DJANGO_GRAPHQL = {}
    assert bare(str(get_schema())) == bare(BASE)
    assert graphql.Query is ROOTS["Query"]


@pytest.mark.parametrize("way", EVERY_WAY)
async def test_a_project_s_own_schema(way: str, renamed: None) -> None:
    """Its own `task` and `tasks` stand beside ours; types that it merges have the new names."""
    schema = strawberry.Schema(
        query=merge_types("Query", (OwnTasks, graphql.Query)),
        mutation=merge_types("Mutation", (graphql.Mutation, shop.TaskMutations)),
        subscription=graphql.Subscription,
    )
    answer = await ask(way, schema, "mutation { add(a: 1) { __typename task { __typename id } } }")
    started = answer["data"]["add"]
    assert started["__typename"] == "StartedTask"
    assert started["task"]["__typename"] == "BackgroundTask"
    id_ = started["task"]["id"]
    query = f'{{ tasks task backgroundTask(id: "{id_}") {{ __typename status }} }}'
    assert (await ask(way, schema, query))["data"] == {
        "tasks": ["write the docs"],
        "task": "write the docs",
        "backgroundTask": {"__typename": "BackgroundTask", "status": "completed"},
    }
    again = f'mutation {{ again(id: "{id_}") {{ __typename status }} }}'
    assert (await ask(way, schema, again))["data"]["again"]["__typename"] == "StartedTask"
    if way in SOCKETS:
        query = f'subscription {{ follow(taskId: "{id_}") {{ __typename }} }}'
        assert (await ask(way, schema, query))["data"]["follow"] == {"__typename": "BackgroundTask"}


async def test_the_other_edges_go_on(renamed: None) -> None:
    """Introspection knows the new names; REST and its description have names of their own."""
    assert get_schema().introspect()["__schema"]["queryType"]["name"] == "Query"
    client = AsyncClient()
    query = '{ __type(name: "BackgroundTask") { name } }'
    response = await client.post("/graphql/", {"query": query}, "application/json")
    assert response.json() == {"data": {"__type": {"name": "BackgroundTask"}}}
    assert (await client.get("/api/v1/tasks/")).status_code == 200
    assert (await client.get("/api/v1/openapi.json")).status_code == 200


def test_a_root_without_fields_is_left_out(settings: Any) -> None:
    """A schema has no empty type."""
    gone: dict[str, None] = dict.fromkeys(FIELDS["Mutation"] + FIELDS["Subscription"])
    set_rename(settings, gone, mutation_extensions=[], subscription_extensions=[])
    sdl = str(build_schema())
    assert "type Mutation" not in sdl
    assert "type Subscription" not in sdl
    set_rename(settings, dict.fromkeys(FIELDS["Query"]), query_extensions=[])
    with pytest.raises(ConfigurationError, match="leaves out every field of Query"):
        build_schema()


def test_a_clash_with_the_project_s_fields(settings: Any) -> None:
    """It is found by the new name, and gone with another one."""
    clash = ["tests.projects.shop.Clash"]
    set_rename(settings, {"task": "brokenGlass"}, query_extensions=clash)
    with pytest.raises(ConfigurationError, match="the field 'tasks' is declared by"):
        build_schema()
    set_rename(settings, {"tasks": "backgroundTasks"}, query_extensions=clash)
    assert "backgroundTasks(" in str(build_schema())
    paths = ["tests.projects.shop.Queries"]
    set_rename(settings, {"tasks": "shelves"}, query_extensions=paths)
    with pytest.raises(ConfigurationError, match="the field 'shelves' is declared by"):
        build_schema()
    set_rename(settings, {"TaskExecution": "Box"})
    with pytest.raises(ConfigurationError, match="Box"):
        build_schema()
