"""The URLs of the test project: the admin, and what the package serves."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("rail_async_tasks.urls")),
]
