"""The page, and the files that it and the tasks bring along."""

from __future__ import annotations

from contextlib import closing

from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.contrib.staticfiles.views import serve as serve_static
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.static import serve

from example_project.shop.actions import ACTIONS


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The page with a button per task."""
    if settings.DEMO_AUTO_LOGIN and not request.user.is_authenticated:
        # For the demo alone: every visitor is the user `demo`, so that the tasks have an owner and
        # the page works at once. A real site has a login page here.
        user, _ = get_user_model().objects.get_or_create(username="demo")
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    actions = [action.as_json() for action in ACTIONS]
    # With one process the page shows no names of processes.
    context = {"actions": actions, "distributed": bool(settings.REDIS_URL)}
    return render(request, "shop/index.html", context)


def static_file(request: HttpRequest, path: str) -> HttpResponse:
    return _whole(serve_static(request, path))


def media_file(request: HttpRequest, path: str) -> HttpResponse:
    return _whole(serve(request, path, document_root=settings.MEDIA_ROOT))


def _whole(response: HttpResponse) -> HttpResponse:
    """The file in one piece: Django streams files by a sync iterator, which ASGI cannot."""
    if not response.streaming:
        return response
    with closing(response):
        whole = HttpResponse(b"".join(response), status=response.status_code)
    whole.headers = response.headers
    return whole
