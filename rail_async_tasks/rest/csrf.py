"""Checks CSRF tokens of the requests that a page of another site could cause."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest

from rail_async_tasks.access import user_id_of
from rail_async_tasks.auth.bearer import bearer_of
from rail_async_tasks.auth.csrf import CsrfCheck
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hooks import contained
from rail_async_tasks.rest.refusals import CsrfFailed


async def check_csrf(request: HttpRequest, user: Any) -> None:
    """Raises `CsrfFailed` where the credential needs a token and none is valid."""
    # In a thread: with CSRF_USE_SESSIONS it reads the session from the database.
    await sync_to_async(contained(_check))(request, user)


def needs_token(request: HttpRequest, user: Any) -> bool:
    """Returns whether a browser may have added the credential by itself, from any site."""
    if user_id_of(user) is None:
        return False
    if bearer_of(request) is not None:
        return False  # no browser sends it by itself, and no form can
    if get_settings().authenticator is None:
        return True
    # A credential may be a header such as an API key; browsers keep these two only.
    return any(request.headers.get(name) for name in ("Cookie", "Authorization"))


def _check(request: HttpRequest, user: Any) -> None:
    if not needs_token(request, user):
        return
    if (reason := CsrfCheck().problem(request)) is not None:
        raise CsrfFailed(f"The CSRF check failed: {reason}")
