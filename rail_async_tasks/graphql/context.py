"""The caller of a GraphQL operation, from whatever a schema has in `info.context`.

That is an object, a dataclass or a dict with the `request`: Django's, or a Channels consumer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest

from rail_async_tasks.auth.bearer import scope_of
from rail_async_tasks.auth.caller import (
    Caller,
    acaller,
    authenticate,
    authenticate_sync,
    caller,
    refuse_anonymous,
)
from rail_async_tasks.auth.context import RequestContext, handshake_request
from rail_async_tasks.auth.rights import Guard

if TYPE_CHECKING:
    from strawberry.types import Info


async def acaller_of(info: Info[Any, Any]) -> Caller:
    """Returns the caller of the operation, also where another view serves the schema.

    Raises `Unauthenticated` for a bad credential, and for none where one is asked for.
    """
    context = info.context
    if isinstance(context, RequestContext) and context.user is not None:
        found = await context.caller()
    else:
        request, params = _request_of(context)
        user = await authenticate(request, params)
        guard = Guard.of(user, request, params) if params is not None else None
        # Of a socket that another consumer serves: its session was read when it was opened.
        standing = None if guard is None else await guard.ask()
        found = await acaller(user if standing is None else standing.user, request)
    refuse_anonymous(found)
    return found


def guard_of(info: Info[Any, Any], caller: Caller) -> Guard | None:
    """Returns the guard of a subscription, where no view or consumer of ours has one around it."""
    if isinstance(info.context, RequestContext):
        return None
    request, params = _request_of(info.context)
    return Guard.of(caller.user, request, params, caller.viewer)


def caller_of(info: Info[Any, Any]) -> Caller:
    """`acaller_of()` for a synchronous execution."""
    request, _ = _request_of(info.context)
    found = caller(authenticate_sync(request), request)
    refuse_anonymous(found)
    return found


def _request_of(context: Any) -> tuple[Any, Mapping[str, Any] | None]:
    """Returns the request in a context, and the payload of a socket's `connection_init`.

    Without any request the project's own code executes the operation, a test say: then the
    context's `user` and `tenant_id` count, as a request's would.
    """

    def get(name: str) -> Any:
        return context.get(name) if isinstance(context, Mapping) else getattr(context, name, None)

    request, params = get("request"), get("connection_params")
    if request is None and params is None and get("user") is not None:
        return SimpleNamespace(user=get("user"), tenant_id=get("tenant_id")), None
    return _as_django_s(request), params


def _as_django_s(request: Any) -> Any:
    """Returns a Channels consumer, or its request, as the Django request that the rest reads."""
    if isinstance(request, HttpRequest):
        return request
    scope = scope_of(request)
    return handshake_request(dict(scope)) if "path" in scope else request
