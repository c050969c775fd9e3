"""Checks that what is declared for GraphQL is served: found where it is missing, silent else."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import strawberry
from django.contrib.auth.decorators import login_required
from django.urls import include, path
from strawberry.django.views import AsyncGraphQLView, GraphQLView

from rail_async_tasks import task, task_mutation
from rail_async_tasks.checks import check_urls
from rail_async_tasks.registry import registry

OURS = path("api/", include("rail_async_tasks.urls"))


@strawberry.type
class Query:
    one: int = 1


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


def schema_with(report: Any, *, nested: bool = False) -> strawberry.Schema:
    """Returns a schema of the project's own with the mutation of a task."""

    @strawberry.type
    class Reports:
        make_report = report

    @strawberry.type
    class Nested:
        reports: Any = strawberry.field(resolver=Reports, graphql_type=Reports)

    return strawberry.Schema(query=Query, mutation=Nested if nested else Reports)


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


def test_what_others_report_is_not_repeated(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken URLs are Django's to report, extensions that make no schema are E012's or E021's."""
    declare()
    settings.ROOT_URLCONF = "no_such.urls"
    assert check_urls(None) == []
    settings.RAIL_DJANGO_GRAPHQL = {"schema_settings": {"mutation_extensions": ["no_such.Type"]}}
    assert ids(settings, monkeypatch, OURS) == []
