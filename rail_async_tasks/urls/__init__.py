"""The URLs of the package: `path("", include("rail_async_tasks.urls"))`.

Or in parts, each at a place of its own: `include("rail_async_tasks.urls.graphql")`, `.rest`,
`.dashboard`, `.health`. Django finds one include per namespace, so the parts have namespaces of
their own; `graphql` has that of the whole, as `{% url "rail_async_tasks:graphql" %}` is what pages
write.
"""

from __future__ import annotations

from django.urls import include, path

from rail_async_tasks.urls import graphql, health, rest

app_name = "rail_async_tasks"

urlpatterns = [
    *graphql.urlpatterns,
    *rest.urlpatterns,
    *health.urlpatterns,
    path("", include("rail_async_tasks.urls.dashboard")),
]
