"""The URLs of probes and metrics: `include("rail_async_tasks.urls.health")`."""

from __future__ import annotations

from django.urls import path

from rail_async_tasks.health import live, ready
from rail_async_tasks.observability.endpoint import metrics

app_name = "rail_async_tasks_health"

urlpatterns = [
    path("tasks/metrics", metrics, name="metrics"),
    path("tasks/metrics/", metrics),
    path("tasks/health/live", live, name="live"),
    path("tasks/health/live/", live),
    path("tasks/health/ready", ready, name="ready"),
    path("tasks/health/ready/", ready),
]
