"""The frame of every REST view: methods, authentication, CSRF, errors as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import get_script_prefix
from django.utils.encoding import escape_uri_path

from rail_async_tasks.auth.caller import Caller, acaller, authenticate, refuse_anonymous
from rail_async_tasks.own_views import own_view
from rail_async_tasks.rest.csrf import check_csrf
from rail_async_tasks.rest.parameters import read_parameters, refuse_body
from rail_async_tasks.rest.refusals import MethodNotAllowed, refused

# GET covers HEAD: servers drop the body.
READ: Final = ("GET", "HEAD")
CHANGE: Final = ("POST",)

# The path of the tasks below the prefix of the project's URLs.
ROOT: Final = "api/v1/tasks/"

Handler = Callable[..., Awaitable[HttpResponseBase]]
View = Callable[..., Any]  # async; Django's types know only of views that are not


def endpoint(
    methods: tuple[str, ...] | None, parameters: Mapping[str, Any] | None = None
) -> Callable[[Handler], View]:
    """Makes a view of `handler(request, caller, query, [task_id])`, which may raise `TaskError`.

    `methods` are the allowed ones, None for any. `parameters` are the allowed query parameters;
    `query` has those with a value.
    """

    def decorate(handler: Handler) -> View:
        @own_view
        @wraps(handler)
        async def view(
            request: HttpRequest, *, task_id: str | None = None, **_: Any
        ) -> HttpResponseBase:
            try:
                _check_method(request, methods)
                caller = await _caller(request)
                if methods == CHANGE:
                    refuse_body(request)
                    await check_csrf(request, caller.user)
                query = read_parameters(request.GET, parameters or {})
                if task_id is None:
                    return await handler(request, caller, query)
                return await handler(request, caller, query, task_id)
            except Exception as error:  # noqa: BLE001 - whatever it is, a client gets JSON
                return refused(error)

        return view

    return decorate


def _check_method(request: HttpRequest, methods: tuple[str, ...] | None) -> None:
    if methods is not None and request.method not in methods:
        raise MethodNotAllowed(methods)


async def _caller(request: HttpRequest) -> Caller:
    """Returns the caller. Raises `Unauthenticated`."""
    user = await authenticate(request)
    request.user = user  # loaded, for permission classes and tenant resolvers
    caller = await acaller(user, request)
    refuse_anonymous(caller)
    return caller


def root_url(request: HttpRequest, root: str = ROOT) -> str:
    """Returns the URL of the list below the prefix of this request."""
    path = public_path(request)
    return escape_uri_path(path[: path.rindex(root)] + root)


def public_path(request: HttpRequest) -> str:
    """Returns the path as the client sees it.

    Under ASGI `request.path` lacks a FORCE_SCRIPT_NAME that a proxy has cut off the path.
    """
    return get_script_prefix().removesuffix("/") + request.path_info
