"""The test project's URLs, a way to sign in, and ways to cut the streams."""

from __future__ import annotations

from django.contrib.auth import login, logout
from django.contrib.auth.models import Permission, User
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import timezone

from rail_async_tasks.dashboard import live
from rail_async_tasks.hosting import process
from rail_async_tasks.models import TaskExecution
from tests import urls


def sign_in(request: HttpRequest, kind: str) -> HttpResponse:
    """Signs in a user who may see (`viewer`), or change (`operator`), every task."""
    if kind == "anonymous":
        logout(request)
        return HttpResponse("")
    user, _ = User.objects.get_or_create(username=kind, is_staff=True)
    for verb in ("view", "change") if kind == "operator" else ("view",):
        user.user_permissions.add(Permission.objects.get(codename=f"{verb}_taskexecution"))
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse("")


def cut_streams(request: HttpRequest, refuse: str) -> HttpResponse:
    """Ends every stream; with `yes` new ones are refused from now on, with `no` they are served."""
    live.server.is_going_away = (lambda: True) if refuse == "yes" else (lambda: False)
    process.bus().close_mailboxes()
    return HttpResponse("")


def fill(request: HttpRequest, count: int) -> HttpResponse:
    """Stores so many completed tasks."""
    at = timezone.now()
    TaskExecution.objects.bulk_create(
        TaskExecution(
            name=f"filled.{number % 20}",
            status="completed",
            queue="default",
            progress=100,
            attempts=1,
            created_at=at,
            updated_at=at,
            started_at=at,
            completed_at=at,
        )
        for number in range(count)
    )
    return HttpResponse("")


urlpatterns = [
    path("fill/<int:count>/", fill),
    path("as/<str:kind>/", sign_in),
    path("cut/<str:refuse>/", cut_streams),
    *urls.urlpatterns,
]
