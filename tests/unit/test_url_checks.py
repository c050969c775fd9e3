"""Checks that what is declared for GraphQL is served: found where it is missing, silent else."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import pytest
import strawberry
from django.contrib.auth.decorators import login_required
from django.urls import include, path
from strawberry.django.views import AsyncGraphQLView, GraphQLView

from rail_async_tasks import graphql as ours
from rail_async_tasks import task, task_mutation
from rail_async_tasks.checks import check_urls
from rail_async_tasks.registry import registry

OURS = path("api/", include("rail_async_tasks.urls"))


@strawberry.type
class Query:
    one: int = 1


@strawberry.type
class Jobs:
    @strawberry.field
    def newest(self) -> list[ours.TaskExecution]:  # type: ignore[name-defined]
        return []


@strawberry.type
class Shop:
    jobs: Jobs | None = None


@pytest.fixture(autouse=True)
def no_task_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_definitions", {})
    for name in ("coroutine_names", "thread_names"):
        monkeypatch.setattr(registry, name, frozenset())


def ids(settings: Any, monkeypatch: pytest.MonkeyPatch, *patterns: Any) -> list[str]:
    """Returns the ids of what is found with these URL patterns."""
    module = ModuleType("checked_urls")
    module.urlpatterns = list(patterns)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "checked_urls", module)
    settings.ROOT_URLCONF = "checked_urls"
    found = check_urls(None)
    assert all(it.hint for it in found)
    return [it.id.rpartition(".")[2] for it in found]


def declare() -> Any:
    @task_mutation
    def report(count: int) -> int:
        return count

    return report


def schema_with(report: Any, *, nested: bool = False, **other_roots: Any) -> strawberry.Schema:
    """Returns a schema of the project's own with the mutation of a task, and with our fields."""

    @strawberry.type
    class Reports:
        make_report = report

    @strawberry.type
    class Nested:
        reports: Any = strawberry.field(resolver=Reports, graphql_type=Reports)

    roots = {"query": ours.Query, "subscription": ours.Subscription, **other_roots}
    return strawberry.Schema(mutation=Nested if nested else Reports, **roots)


def test_no_url_serves_graphql(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project with tasks for Python alone needs none."""
    assert ids(settings, monkeypatch) == []

    @task
    def tidy() -> None: ...

    assert ids(settings, monkeypatch) == []
    declare()
    assert ids(settings, monkeypatch) == ["W015"]


def test_no_url_serves_the_types_of_the_settings(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are for GraphQL, whatever they have."""
    settings.RAIL_DJANGO_GRAPHQL = {"schema_settings": {"query_extensions": ["shop.Query"]}}
    assert ids(settings, monkeypatch) == ["W015"]
    settings.RAIL_DJANGO_GRAPHQL["task_settings"] = {"enabled": False}
    assert ids(settings, monkeypatch) == []


def test_a_mutation_that_no_schema_has(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In ours, or in the project's."""
    report = declare()
    own = strawberry.Schema(query=Query)
    assert ids(settings, monkeypatch, OURS) == ["W016"]
    assert ids(settings, monkeypatch, path("x/", GraphQLView.as_view(schema=own))) == ["W016"]
    other = path("y/", GraphQLView.as_view(schema=schema_with(report)))
    assert ids(settings, monkeypatch, OURS, other) == []


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("view", [AsyncGraphQLView, GraphQLView])
def test_a_schema_of_the_projects_own(
    settings: Any, monkeypatch: pytest.MonkeyPatch, view: Any, nested: bool
) -> None:
    """In a view of Strawberry's, behind a decorator, in an included module, in a nested type."""
    schema = schema_with(declare(), nested=nested)
    served = path("graphql/", login_required(view.as_view(schema=schema)))
    assert ids(settings, monkeypatch, path("v1/", include([served]))) == []


def unread(
    settings: Any, monkeypatch: pytest.MonkeyPatch, view: Any = AsyncGraphQLView, **roots: Any
) -> list[str]:
    """Returns the messages of W017 for a schema with these roots."""
    monkeypatch.setattr(registry, "_definitions", {})
    schema = schema_with(declare(), **roots)
    patterns = [path("x/", view.as_view(schema=schema)), path("y/", view.as_view(schema=schema))]
    assert set(ids(settings, monkeypatch, *patterns)) <= {"W017"}
    return [str(it.msg) for it in check_urls(None)]


NO_QUERY = (
    "The schema of AsyncGraphQLView starts tasks, and its Query has no field to ask for a task's"
    " status and result."
)
NO_STREAM = (
    "The schema of AsyncGraphQLView starts tasks, and its Subscription has no field to follow a"
    " task's progress."
)


def test_a_schema_that_cannot_read_what_it_starts(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found for each root, once for a schema under two views."""

    @strawberry.type
    class Ticks:
        @strawberry.subscription
        async def ticks(self) -> AsyncIterator[int]:
            yield 1

    assert unread(settings, monkeypatch, query=Query) == [NO_QUERY]
    assert unread(settings, monkeypatch, subscription=None) == [NO_STREAM]
    assert unread(settings, monkeypatch, subscription=Ticks) == [NO_STREAM]
    both = unread(settings, monkeypatch, query=Query, subscription=None)
    assert both == [NO_QUERY, NO_STREAM]
    [warning, _] = check_urls(None)
    assert 'merge_types("Query", (YourQuery, Query))' in str(warning.hint)


def test_a_field_of_the_projects_own_reads_tasks(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its name, and however deep it stands."""

    assert unread(settings, monkeypatch, query=Shop) == []


def test_a_synchronous_view_needs_no_subscription(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would refuse one."""
    assert unread(settings, monkeypatch, GraphQLView, subscription=None) == []


def test_fields_that_the_settings_leave_out_are_not_missed(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All fields of a root, or the hint names one that is left."""
    gone = dict.fromkeys(("taskProgress", "taskUpdated", "myTaskUpdates"))
    settings.RAIL_DJANGO_GRAPHQL = {"schema_settings": {"rename": {**gone, "task": "job"}}}
    assert unread(settings, monkeypatch, subscription=None) == []
    assert unread(settings, monkeypatch, query=Query, subscription=None) == [NO_QUERY]
    assert "Query, which has job:" in str(check_urls(None)[0].hint)


def test_what_others_report_is_not_repeated(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken URLs are Django's to report, extensions that make no schema are E012's or E021's."""
    declare()
    settings.ROOT_URLCONF = "no_such.urls"
    assert check_urls(None) == []
    settings.RAIL_DJANGO_GRAPHQL = {"schema_settings": {"mutation_extensions": ["no_such.Type"]}}
    assert ids(settings, monkeypatch, OURS) == []
