"""The URLs of the package as a whole."""

from __future__ import annotations

from types import ModuleType

import pytest
from django.urls import include

from rail_async_tasks import urls
from rail_async_tasks.urls import health


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module before its patterns were asked for."""
    monkeypatch.delitem(vars(urls), "urlpatterns", raising=False)
    return urls


def test_all_parts_are_there(anew: ModuleType) -> None:
    """GraphQL, REST, probes and the dashboard."""
    patterns, app_name, _ = include(anew)
    assert app_name == "rail_async_tasks"
    found = {str(it.pattern) for it in patterns.urlpatterns}
    assert found >= {"graphql/", "tasks/health/live", "api/v1/tasks/", ""}


def test_an_error_of_a_part_is_not_taken_for_no_urls(
    anew: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django asks a module for `urlpatterns`, and does without where that raises AttributeError."""
    monkeypatch.delattr(health, "urlpatterns")
    with pytest.raises(ImportError, match="has no attribute 'urlpatterns'"):
        include(anew)


def test_it_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'urlpattern'"):
        urls.urlpattern  # type: ignore[attr-defined]  # noqa: B018
