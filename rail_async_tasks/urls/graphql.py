"""The URLs of GraphQL and of its console: `include("rail_async_tasks.urls.graphql")`."""

from __future__ import annotations

from django.urls import path

from rail_async_tasks.graphql.console import console_asset
from rail_async_tasks.graphql.views import TaskGraphQLView

app_name = "rail_async_tasks"

urlpatterns = [
    path("graphql/", TaskGraphQLView.as_view(), name="graphql"),
    path("graphql/<str:name>", console_asset, name="console-asset"),
]
