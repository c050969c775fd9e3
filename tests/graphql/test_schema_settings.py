"""`schema_settings`: a schema of the project's own, and extensions and a config of the merged one.

And `introspection` and `console` of the task settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any, NewType

import pytest
import strawberry
from django.test import AsyncClient
from django.urls import path
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig

from rail_async_tasks import ConfigurationError
from rail_async_tasks.asgi import get_asgi_application
from rail_async_tasks.graphql import Query, Subscription, TaskGraphQLView, TaskSchema
from rail_async_tasks.graphql.schema import build_schema, get_schema
from tests.projects import shop
from tests.support.sockets import Socket

HERE = "tests.graphql.test_schema_settings"
Day = NewType("Day", date)


@strawberry.type
class Calendar:
    @strawberry.field
    def launch_day(self) -> Day:
        return Day(date(2026, 1, 16))


class Counts(SchemaExtension):
    """Adds how many operations this object has seen to the answer."""

    def __init__(self, key: str = "class") -> None:
        self.key = key
        self.seen = 0

    def on_operation(self) -> Iterator[None]:
        self.seen += 1
        yield

    def get_results(self) -> dict[str, Any]:
        return {self.key: self.seen}


class NeedsAnArgument(SchemaExtension):
    def __init__(self, key: str) -> None: ...


instance = Counts("instance")


def factory() -> Counts:
    return Counts("factory")


def makes_nothing() -> None: ...


snake_case = StrawberryConfig(
    auto_camel_case=False,
    scalar_map={Day: strawberry.scalar(name="Day", serialize=lambda value: value.isoformat())},
)
own = strawberry.Schema(query=Query, subscription=Subscription)


@strawberry.type
class Other:
    @strawberry.field
    def other(self) -> int:
        return 7


other = TaskSchema(query=Other)
urlpatterns = [
    path("other/", TaskGraphQLView.as_view(schema=other)),
    path("graphql/", TaskGraphQLView.as_view()),
]


def use(settings: Any, task_settings: dict[str, Any] | None = None, **schema: Any) -> None:
    settings.RAIL_DJANGO_GRAPHQL = {
        "schema_settings": schema,
        "task_settings": {"backend": "sync", "track_in_database": False, **(task_settings or {})},
    }


async def post(query: str, url: str = "/graphql/") -> Any:
    response = await AsyncClient().post(url, {"query": query}, "application/json")
    assert response.status_code == 200, response.content
    return response.json()


async def first_answer(query: str, url: str = "/graphql/") -> Any:
    """The first answer over a WebSocket of the application."""
    socket = Socket(application=get_asgi_application(), scope={"path": url})
    await socket.ready()
    await socket.subscribe(query)
    answer = await socket.receive()
    await socket.leave()
    return answer["payload"]


async def test_a_schema_of_the_project_s_own(settings: Any) -> None:
    """View and consumer serve that very object."""
    use(settings, schema=f"{HERE}.other")
    assert get_schema() is other
    assert await post("{ other }") == {"data": {"other": 7}}
    assert (await first_answer("{ other }"))["data"] == {"other": 7}


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "cannot be imported"), ("factory", "is no strawberry.Schema")],
)
async def test_a_wrong_schema_is_refused_by_use(settings: Any, name: str, message: str) -> None:
    """Every request is answered with 503; the check says why."""
    use(settings, schema=f"{HERE}.{name}")
    with pytest.raises(ConfigurationError, match=message):
        get_schema()
    response = await AsyncClient().post("/graphql/", {"query": "{ other }"}, "application/json")
    assert response.status_code == 503


async def test_a_view_with_a_schema_of_its_own(settings: Any) -> None:
    """Over HTTP and, at the same path, over a WebSocket; other paths have that of the settings."""
    settings.ROOT_URLCONF = HERE
    use(settings, schema=f"{HERE}.own")
    assert await post("{ other }", "/other/") == {"data": {"other": 7}}
    assert (await first_answer("{ other }", "/other/"))["data"] == {"other": 7}
    assert (await post("{ tasks { id } }"))["data"] == {"tasks": []}
    assert (await first_answer("{ tasks { id } }"))["data"] == {"tasks": []}


async def test_extensions(settings: Any) -> None:
    """Classes, factories and instances, each anew for each operation."""
    names = ("Counts", "factory", "instance")
    use(settings, extensions=[f"{HERE}.{name}" for name in names])
    for _ in range(2):
        answer = await post("{ tasks { id } }")
        assert answer["extensions"] == {"class": 1, "factory": 1, "instance": 1}
    assert instance.seen == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "cannot be imported"),
        ("own", "is no Strawberry schema extension"),
        ("Other", "is no Strawberry schema extension"),
        ("makes_nothing", "is no Strawberry schema extension"),
        ("NeedsAnArgument", "cannot be called without arguments"),
    ],
)
def test_a_wrong_extension_is_refused(settings: Any, name: str, message: str) -> None:
    """By use, not by an import."""
    use(settings, extensions=[f"{HERE}.{name}"])
    with pytest.raises(ConfigurationError, match=message):
        build_schema()


async def test_a_config(settings: Any) -> None:
    """Names and scalars are as it says."""
    use(settings, config=f"{HERE}.snake_case", query_extensions=[f"{HERE}.Calendar"])
    assert "  task_progress(task_id: ID!): TaskExecution!" in str(get_schema())
    assert "  launch_day: Day!" in str(get_schema())
    answer = await post("{ launch_day tasks { created_at } }")
    assert answer["data"] == {"launch_day": "2026-01-16", "tasks": []}
    use(settings, config=f"{HERE}.own")
    with pytest.raises(ConfigurationError, match="is no StrawberryConfig"):
        build_schema()


INTROSPECTION = [
    "{ __schema { queryType { name } } }",
    '{ __type(name: "Query") { name } }',
    'query Q { tasks { id } } query R { __type (name: "a") { name } }',
]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("chosen", [None, True, False])
async def test_introspection(settings: Any, debug: bool, chosen: bool | None) -> None:
    """The setting, else `DEBUG`; `__typename` always, and the project's own code always."""
    settings.DEBUG = debug
    use(settings, {"introspection": chosen})
    allowed = debug if chosen is None else chosen
    for query in INTROSPECTION[:2]:
        assert ("errors" not in await post(query)) == allowed
        answer = await first_answer(query)
        assert (isinstance(answer, dict) and "errors" not in answer) == allowed
    response = await AsyncClient().post(
        "/graphql/", {"query": INTROSPECTION[2], "operationName": "Q"}, "application/json"
    )
    assert ("introspection" in response.content.decode()) == (not allowed)
    assert "errors" not in await post("{ __typename tasks { __typename } }")
    for near in (
        "{ taskz { id } }",
        "{ tasks(limt: 1) { id } }",
        "query($a: Strin) { __typename }",
    ):
        assert ("Did you mean" in str((await post(near))["errors"])) == allowed
    assert get_schema().introspect()["__schema"]["queryType"]["name"] == "Query"


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("chosen", [None, True, False])
async def test_the_console(settings: Any, debug: bool, chosen: bool | None) -> None:
    """The setting, else `DEBUG`: the page and its files."""
    settings.DEBUG = debug
    use(settings, {"console": chosen})
    shown = debug if chosen is None else chosen
    client = AsyncClient()
    page = await client.get("/graphql/", headers={"accept": "text/html"})
    assert page["Content-Type"].startswith("text/html") == shown
    assert page.status_code == (200 if shown else 406)
    for name in ("console.js", "console.css"):
        assert (await client.get(f"/graphql/{name}")).status_code == (200 if shown else 404)


def test_names_are_exported_lazily() -> None:
    """All that the documentation names, and nothing that is not there."""
    import rail_async_tasks.graphql as package

    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        package.Missing  # noqa: B018
    assert shop.add is not None
