"""The URLs of REST and of its description: `include("rail_async_tasks.urls.rest")`."""

from __future__ import annotations

from django.urls import path

from rail_async_tasks.rest.openapi import PATH as OPENAPI_PATH
from rail_async_tasks.rest.openapi import openapi
from rail_async_tasks.rest.routes import task_urls

app_name = "rail_async_tasks_rest"

urlpatterns = [*task_urls(), path(OPENAPI_PATH, openapi, name="openapi")]
