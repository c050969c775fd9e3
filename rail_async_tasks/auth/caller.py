"""The caller of a request or a socket: the user behind the credential, and what they may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.utils.functional import LazyObject

from rail_async_tasks.access import Viewer, atenant_of
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class Caller:
    """The user behind a request (`AnonymousUser` for nobody) and what they may see."""

    user: Any
    viewer: Viewer

    @property
    def tenant_id(self) -> str | None:
        return self.viewer.tenant_id


async def acaller(user: Any, request: Any) -> Caller:
    """The caller that `user` is, in the tenant for which `request` speaks."""
    tenant_id = None if request is None else await atenant_of(request)
    return Caller(user, await Viewer.afor_user(user, tenant_id))


def refuse_anonymous(caller: Caller) -> None:
    """Raise `Unauthenticated` where a task may not be started without a user."""
    if caller.viewer.is_anonymous and get_settings().anonymous_access == "deny":
        raise Unauthenticated


async def authenticate(request: Any, connection_params: dict[str, Any] | None = None) -> Any:
    """The user whose credential came along, `AnonymousUser` without one. The only way in.

    The credential is the session's cookie, which the middleware has turned into `request.user`.
    """
    from django.contrib.auth.models import AnonymousUser

    user = getattr(request, "user", None)
    if user is None:
        user = getattr(request, "scope", {}).get("user")
    if isinstance(user, LazyObject):
        # Not `request.auser()`: a middleware of the project may have put in a user of its own.
        await sync_to_async(lambda: user.is_authenticated)()
    return AnonymousUser() if user is None else user
