"""The console: a page to try queries on, which loads nothing from other hosts.

Its three files are served as they are, by the package itself and by relative URLs: no template
engine, static file set-up or inline code is needed, so it works under every server, URL prefix and
content security policy.
"""

from __future__ import annotations

from functools import cache, partial
from hashlib import sha256
from importlib.resources import files

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import condition, require_safe

from rail_async_tasks.graphql.schema import console_is_on
from rail_async_tasks.own_views import own_view

_ASSETS = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
}


def console_page() -> HttpResponse:
    """Returns the page, which loads the two assets below."""
    response = HttpResponse(_read("console.html"), content_type="text/html; charset=utf-8")
    response["Vary"] = "Accept"
    return response


def _etag(request: HttpRequest, name: str) -> str | None:
    if name not in _ASSETS or not console_is_on():
        return None
    return f'"{sha256(_read(name)).hexdigest()[:16]}"'


@partial(own_view, same_for_all=True)
@require_safe
@condition(etag_func=_etag)
def console_asset(request: HttpRequest, name: str) -> HttpResponse:
    """Serves the page's style sheet and script."""
    if name not in _ASSETS or not console_is_on():
        raise Http404
    response = HttpResponse(_read(name), content_type=_ASSETS[name])
    # Asked about each time, so that an upgraded package never meets an old script.
    response["Cache-Control"] = "private, no-cache"
    response["X-Content-Type-Options"] = "nosniff"
    return response


@cache
def _read(name: str) -> bytes:
    return (files("rail_async_tasks.graphql") / "assets" / name).read_bytes()
