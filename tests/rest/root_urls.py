"""The URLs of a project that mounts ours at its root, as the README has it."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def other(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


urlpatterns = [
    path("", include("rail_async_tasks.urls")),
    path("admin/", admin.site.urls),
    path("other/", other, name="other"),
]
