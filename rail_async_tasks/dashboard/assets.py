"""Serves the style sheet and the scripts of the pages.

As of the console: by the package itself, so that no set-up of static files is needed.
"""

from __future__ import annotations

from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import condition, require_safe

from rail_async_tasks.own_views import own_view

_FOLDER: Final = Path(__file__).with_name("assets")
# Put there by scripts/htmx_library.py; absent in a checkout that was made without npm.
HTMX: Final = "htmx.min.js"
ASSETS: Final = {
    HTMX: "text/javascript; charset=utf-8",
    "times.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "keys.js": "text/javascript; charset=utf-8",
    "filter.js": "text/javascript; charset=utf-8",
    "dashboard.css": "text/css; charset=utf-8",
    "operations.css": "text/css; charset=utf-8",
    "task.js": "text/javascript; charset=utf-8",
    "task.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def has(name: str) -> bool:
    """Returns whether the package holds this file."""
    return name in ASSETS and (_FOLDER / name).is_file()


def _etag(request: HttpRequest, name: str) -> str | None:
    return f'"{sha256(_read(name)).hexdigest()[:16]}"' if has(name) else None


@partial(own_view, same_for_all=True)
@require_safe
@condition(etag_func=_etag)
def asset(request: HttpRequest, name: str) -> HttpResponse:
    """Answers with a file of the pages; they hold nothing of any task."""
    if not has(name):
        raise Http404
    response = HttpResponse(_read(name), content_type=ASSETS[name])
    # Asked about each time, so that an upgraded package never meets an old script.
    response["Cache-Control"] = "private, no-cache"
    response["X-Content-Type-Options"] = "nosniff"
    return response


@cache
def _read(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()
