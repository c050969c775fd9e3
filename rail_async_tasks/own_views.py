"""Shared by all views of the package: `own_view`, the decorator, and the care for connections.

The views decide who may call them, by the same rules as over WebSocket, where Django's middleware
does not run. Rules that a project sets for all of its pages do not apply to them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import connections
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers

# The headers that usually identify a caller. An `authenticator` may read any other header, so
# `Vary` alone does not keep answers apart: `no-store` does.
CREDENTIALS: Final = ("Cookie", "Authorization")

View = Callable[..., Any]


class _EveryAlias(set[str]):
    """A set that contains every database alias, also one that is configured later."""

    def __contains__(self, alias: object) -> bool:
        return True


def own_view(view: View, *, same_for_all: bool = False) -> View:
    """Marks a view of the package. Goes outermost: a URL pattern names the returned function.

    - No cache stores its answers: neither Django's per-site cache, nor a proxy, nor a browser.
      With `same_for_all` a success depends on no caller, and the view sets `Cache-Control`.
    - `ATOMIC_REQUESTS` does not apply: Django has no transaction around async views, and a task is
      committed before the answer that names it.
    - `LoginRequiredMiddleware` does not apply: it knows sessions only, and would redirect a bearer
      or a probe to a page.
    - `CsrfViewMiddleware` does not apply: it does not know bearers. Views that accept a session
      check the token themselves.
    """

    def uncached(response: HttpResponseBase) -> HttpResponseBase:
        if not same_for_all or response.status_code >= HTTPStatus.BAD_REQUEST:
            patch_cache_control(response, no_store=True, private=True)
            patch_vary_headers(response, CREDENTIALS)
        return response

    if iscoroutinefunction(view):

        @wraps(view)
        async def async_view(*args: Any, **kwargs: Any) -> HttpResponseBase:
            return uncached(await view(*args, **kwargs))

        marked: Any = async_view
    else:

        @wraps(view)
        def sync_view(*args: Any, **kwargs: Any) -> HttpResponseBase:
            return uncached(view(*args, **kwargs))

        marked = sync_view
    # The attributes of `csrf_exempt`, `login_not_required` and `non_atomic_requests`; the last one
    # takes the databases one by one.
    marked.csrf_exempt = True
    marked.login_required = False
    marked._non_atomic_requests = _EveryAlias()  # noqa: SLF001
    found: View = marked
    return found


async def arelease_connections() -> None:
    """Closes the database connections of a request whose stream may stay open for hours.

    Django closes them when the request ends. A connection in a transaction stays open.
    """
    await sync_to_async(release_connections)()


def release_connections() -> None:
    """`arelease_connections` for the thread that has them."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def close_old_outside_transactions() -> None:
    """Closes this thread's unusable and expired connections, as Django does before a request.

    Django's `close_old_connections` closes one in a transaction as well, such as a `TestCase` has.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
