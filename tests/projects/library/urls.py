"""The URLs of the library."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("", include("rail_async_tasks.urls"))]
