"""The URLs of the package: `path("", include("rail_async_tasks.urls"))`.

Or in parts, each at a place of its own: `include("rail_async_tasks.urls.graphql")`, `.rest`,
`.dashboard`, `.health`. Django finds one include per namespace, so the parts have namespaces of
their own; `graphql` has that of the whole, as `{% url "rail_async_tasks:graphql" %}` is what pages
write.
"""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from django.urls.resolvers import URLPattern, URLResolver

__all__ = ["app_name", "urlpatterns"]

app_name = "rail_async_tasks"

urlpatterns: list[URLPattern | URLResolver]


def __getattr__(name: str) -> Any:
    # Only when asked for: a project that includes one part imports no other.
    if name != "urlpatterns":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = globals()[name] = _all_parts()
    except AttributeError as error:  # `include` would take it for the want of `urlpatterns`
        raise ImportError(f"The URLs of rail_async_tasks can't be imported: {error}") from error
    return found


def _all_parts() -> list[URLPattern | URLResolver]:
    from rail_async_tasks.urls import graphql, health, rest

    return [
        *graphql.urlpatterns,
        *rest.urlpatterns,
        *health.urlpatterns,
        path("", include("rail_async_tasks.urls.dashboard")),
    ]
