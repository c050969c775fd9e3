"""Who may open the dashboard and act in it, and the headers of its responses.

`page` and `action` go around every view. Superusers, and staff with `view_taskexecution`, see every
page; actions need `change_taskexecution`. The templates read the same rights from the `Visitor`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, Resolver404, resolve, reverse
from graphql import GraphQLError

from rail_async_tasks.access import Viewer
from rail_async_tasks.auth.caller import authenticate_sync, caller
from rail_async_tasks.auth.csrf import CsrfCheck
from rail_async_tasks.dashboard.render import Refused, refusal
from rail_async_tasks.errors import TaskError, TaskNotFound
from rail_async_tasks.own_views import View, own_view
from rail_async_tasks.rest.endpoint import public_path
from rail_async_tasks.rest.refusals import ANSWERS
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import sentence

logger = get_logger("rail_async_tasks.dashboard")

HEADERS: Final = {
    # Nothing inline and nothing from elsewhere: a task's texts could only become markup by a
    # mistake of ours, and could then still run nothing.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
READ: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Visitor:
    """The user who looks at a page. `may_change`: whether actions are offered and accepted."""

    user: Any
    viewer: Viewer

    @property
    def may_change(self) -> bool:
        return self.viewer.changes_all


# Called as `handler(request, visitor, **values of the URL)`.
Handler = Callable[..., HttpResponseBase]


def page(handler: Handler) -> View:
    """Makes a view of a page: GET by a visitor who may see every task."""
    return _view(handler, READ)


def action(handler: Handler) -> View:
    """Makes a view of an action: POST with a CSRF token, by a visitor who may change every task."""
    return _view(handler, ("POST",))


def _view(handler: Handler, methods: tuple[str, ...]) -> View:
    @own_view
    @wraps(handler)
    def view(request: HttpRequest, **values: Any) -> HttpResponseBase:
        csrf = CsrfCheck()
        csrf.process_request(request)
        try:
            visitor = _admitted(request, methods, csrf)
            response = handler(request, visitor, **values)
        except _SignIn as error:
            response = error.redirect
        except Exception as error:  # noqa: BLE001 - whatever it is, a browser gets a page
            response = _refused(request, error)
        for name, value in HEADERS.items():
            response[name] = value
        return csrf.process_response(request, response)

    return view


class _SignIn(Exception):
    """The caller is anonymous; `redirect` leads to the page where users sign in."""

    def __init__(self, redirect: HttpResponse) -> None:
        super().__init__()
        self.redirect = redirect


def _admitted(request: HttpRequest, methods: tuple[str, ...], csrf: CsrfCheck) -> Visitor:
    if request.method not in methods:
        raise Refused(405, f"Use {' or '.join(methods)} here.", allow=methods)
    visitor = admit(request)
    if methods == READ:
        return visitor
    if csrf.problem(request) is not None:
        raise Refused(
            403,
            "The form has no valid CSRF token, so nothing was done. Load the page again, then"
            " repeat the action. Cookies must be allowed for this site.",
        )
    if not visitor.may_change:
        raise Refused(
            403,
            "You may look, but not change tasks. Actions need the permission"
            " rail_async_tasks.change_taskexecution.",
        )
    return visitor


def admit(request: HttpRequest) -> Visitor:
    """Returns the visitor.

    Raises:
        Unauthenticated: a bad credential.
        Refused: a user who may not see every task.
    """
    user = authenticate_sync(request)
    request.user = user
    found = caller(user, request)
    if found.viewer.is_anonymous:
        raise _SignIn(_to_login(request))
    if not found.viewer.sees_all:
        raise Refused(
            403,
            "The dashboard is for superusers, and for staff with the permission"
            " rail_async_tasks.view_taskexecution. Ask an administrator for it, or sign in as"
            " another user.",
            sign_in=_sign_in_url(request),
        )
    return Visitor(user, found.viewer)


def _to_login(request: HttpRequest) -> HttpResponse:
    """Returns a redirect to the project's login page, else to the admin's.

    Raises Refused where the project has neither.
    """
    url = _sign_in_url(request)
    if url is None:
        raise Refused(
            401,
            "Sign in first. This project has no page for that here: set LOGIN_URL, or install"
            " django.contrib.admin and its URLs.",
        )
    return HttpResponseRedirect(url)


def _sign_in_url(request: HttpRequest) -> str | None:
    """Returns the login page's URL with the way back in it; None where there is no such page."""
    url = login_url()
    if url is None:
        return None
    back = full_path(request) if request.method in READ else reverse_list(request)
    return redirect_to_login(back, url)["Location"]


def full_path(request: HttpRequest) -> str:
    """Returns the path and the query as the browser has them."""
    query = request.META.get("QUERY_STRING", "")
    return public_path(request) + (f"?{query}" if query else "")


def reverse_list(request: HttpRequest) -> str:
    """Returns the URL of the list of tasks."""
    match = request.resolver_match
    assert match is not None
    return reverse(f"{match.namespace}:list")


def login_url() -> str | None:
    """Returns where users sign in: LOGIN_URL if it is set or served, else the admin's login."""
    try:
        url = resolve_url(settings.LOGIN_URL)
        if getattr(settings, "is_overridden")("LOGIN_URL"):  # noqa: B009 - unknown to its stubs
            return url
        resolve(urlsplit(url).path)
    except (NoReverseMatch, Resolver404):
        pass
    else:
        return url
    try:
        return reverse("admin:login")
    except NoReverseMatch:
        return None


def _refused(request: HttpRequest, error: Exception) -> HttpResponse:
    if isinstance(error, Refused):
        return refusal(request, error)
    if isinstance(error, TaskNotFound):
        return refusal(request, Refused(404, "There is no such task. It may have expired."))
    if isinstance(error, PermissionDenied | GraphQLError):  # by a permission class of the task
        return refusal(request, Refused(403, sentence(error) if str(error) else "Not permitted."))
    if isinstance(error, TaskError) and error.code in ANSWERS:
        return refusal(request, Refused(ANSWERS[error.code].status, error.message))
    logger.error("A page of the dashboard failed.", exc_info=error)
    return refusal(
        request, Refused(500, "An unexpected error. The log has its details; try again.")
    )
