"""URLs of the example project."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from example_project.shop import views

urlpatterns = [
    path("", views.index, name="index"),
    path("", include("rail_async_tasks.urls")),
    path("admin/", admin.site.urls),
    # A real deployment leaves these two to its web server.
    path("static/<path:path>", views.static_file),
    path("media/<path:path>", views.media_file),
]
