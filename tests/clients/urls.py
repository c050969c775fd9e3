"""The URLs of the server that npm's clients and pages talk to."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from django.contrib.auth import get_user_model, login
from django.contrib.staticfiles import finders
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path

# As strict as a policy gets: nothing inline, nothing from elsewhere, no text as HTML or script.
POLICY = "default-src 'self'; require-trusted-types-for 'script'"

SHELL = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Tasks</title>
<link rel="stylesheet" href="/plain.css">
<script type="module" src="{script}"></script>
<main>
<h1>Tasks</h1>
<label>Progress <progress max="100" value="0"></progress></label> <output></output>
</main>
</html>
"""


def shell(request: HttpRequest, script: str = "rail_async_tasks/task.js") -> HttpResponse:
    """Shows a page with a bar, an output and one script."""
    page = SHELL.format(script=f"/static/{script}")
    headers = {} if "loose" in request.GET else {"Content-Security-Policy": POLICY}
    return HttpResponse(page, headers=headers)


def icon(request: HttpRequest) -> HttpResponse:
    """Serves an icon, for which a browser asks by itself."""
    return HttpResponse(b"", content_type="image/x-icon")


def plain_css(request: HttpRequest) -> HttpResponse:
    # axe-core takes a page without a background for a white one.
    text = ":root { color-scheme: light dark; } body { background: Canvas; color: CanvasText; }"
    return HttpResponse(text, content_type="text/css")


def static(request: HttpRequest, name: str) -> HttpResponse:
    """Serves a static file in one piece."""
    found = finders.find(name)
    if not isinstance(found, str):
        raise Http404
    kind, _ = mimetypes.guess_type(name)
    return HttpResponse(Path(found).read_bytes(), content_type=kind)


def log_in(request: HttpRequest, name: str) -> HttpResponse:
    """Logs a user in, whom it makes where there is none."""
    user, _ = get_user_model().objects.get_or_create(username=name)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return HttpResponse(user.username)


urlpatterns = [
    path("", include("tests.urls")),
    path("", include("reports.urls")),
    path("as/<str:name>/", log_in),
    path("shell/", shell),
    path("shell/<str:script>/", shell),
    path("favicon.ico", icon),
    path("plain.css", plain_css),
    path("static/<path:name>", static),
]
