"""The parts of the package's URLs in an order of the project's own: the dashboard first."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("", include("rail_async_tasks.urls.dashboard")),
    path("", include("rail_async_tasks.urls.health")),
]
