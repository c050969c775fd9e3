"""The URLs of the package: `path("", include("rail_async_tasks.urls"))`."""

from __future__ import annotations

from django.urls import path

from rail_async_tasks.graphql.console import console_asset
from rail_async_tasks.graphql.views import TaskGraphQLView
from rail_async_tasks.health import live, ready
from rail_async_tasks.observability.endpoint import metrics
from rail_async_tasks.rest.openapi import PATH as OPENAPI_PATH
from rail_async_tasks.rest.openapi import openapi
from rail_async_tasks.rest.routes import task_urls

app_name = "rail_async_tasks"

urlpatterns = [
    path("graphql/", TaskGraphQLView.as_view(), name="graphql"),
    path("graphql/<str:name>", console_asset, name="console-asset"),
    *task_urls(),
    path(OPENAPI_PATH, openapi, name="openapi"),
    path("tasks/metrics", metrics, name="metrics"),
    path("tasks/metrics/", metrics),
    path("tasks/health/live", live, name="live"),
    path("tasks/health/live/", live),
    path("tasks/health/ready", ready, name="ready"),
    path("tasks/health/ready/", ready),
]
