"""The caller of a GraphQL operation, from whatever a schema has in `info.context`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rail_async_tasks.auth.caller import Caller, acaller, authenticate, refuse_anonymous
from rail_async_tasks.auth.context import RequestContext

if TYPE_CHECKING:
    from strawberry.types import Info


async def caller_of(info: Info[Any, Any]) -> Caller:
    """Returns the caller of the operation, also where another view serves the schema.

    Raises `Unauthenticated` for a bad credential, and for none where one is asked for.
    """
    caller = await _caller_of(info.context)
    refuse_anonymous(caller)
    return caller


async def _caller_of(context: Any) -> Caller:
    if isinstance(context, RequestContext):
        return await context.caller()
    if isinstance(context, dict):
        request, params = context.get("request"), context.get("connection_params")
    else:
        request = getattr(context, "request", None)
        params = getattr(context, "connection_params", None)
    return await acaller(await authenticate(request, params), request)
