"""The admin, an admin site of the project's own, the package's URLs, and a stand-in's dashboard."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from rail_async_tasks.admin import TaskExecutionAdmin
from rail_async_tasks.models import TaskExecution


class OwnSite(AdminSite):
    """Asks for nothing but a login."""

    def has_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active)


own = OwnSite(name="own")
own.register(TaskExecution, TaskExecutionAdmin)


def page(request: HttpRequest, task_id: str) -> HttpResponse:
    return HttpResponse(task_id)


urlpatterns = [path("admin/", admin.site.urls), path("own/", own.urls)]


class WithDashboard:
    """The same, with a page of that name."""

    dashboard = ([path("tasks/<uuid:task_id>/", page, name="task")], "rail_async_tasks_dashboard")
    urlpatterns = [*urlpatterns, path("", include(dashboard))]  # noqa: RUF012
