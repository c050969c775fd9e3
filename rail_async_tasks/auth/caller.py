"""The caller of a request or a socket: a user and their rights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async  # type: ignore[import-untyped]
from django.utils.functional import LazyObject

from rail_async_tasks.access import Viewer, atenant_of, tenant_of
from rail_async_tasks.auth import authenticator
from rail_async_tasks.auth.bearer import bearer_of, scope_of
from rail_async_tasks.auth.open_connections import address_key, connection_of
from rail_async_tasks.auth.users import auser_of, user_of
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import Unauthenticated
from rail_async_tasks.hooks import contained
from rail_async_tasks.own_views import close_old_outside_transactions


@dataclass(frozen=True, slots=True)
class Caller:
    """The user of a request (`AnonymousUser` without credential) and their rights.

    `address` is what an anonymous caller's starts are counted by; None for users, and where the
    server knows no address.
    """

    user: Any
    viewer: Viewer
    address: str | None = None

    @property
    def tenant_id(self) -> str | None:
        return self.viewer.tenant_id


async def acaller(user: Any, request: Any) -> Caller:
    """Returns the caller: `user`, in the tenant of `request`."""
    tenant_id = None if request is None else await atenant_of(request)
    return _caller(user, await Viewer.afor_user(user, tenant_id), request)


def caller(user: Any, request: Any) -> Caller:
    """`acaller()` for synchronous code."""
    tenant_id = None if request is None else tenant_of(request)
    return _caller(user, Viewer.for_user(user, tenant_id), request)


def _caller(user: Any, viewer: Viewer, request: Any) -> Caller:
    return Caller(
        user, viewer, address_key(connection_of(request)) if viewer.is_anonymous else None
    )


def refuse_anonymous(caller: Caller) -> None:
    """Raises `Unauthenticated` for an anonymous caller where `anonymous_access` is `deny`."""
    if caller.viewer.is_anonymous and get_settings().anonymous_access == "deny":
        raise Unauthenticated


async def authenticate(request: Any, connection_params: Mapping[str, Any] | None = None) -> Any:
    """Returns the user of the credential, `AnonymousUser` without one. The only way in.

    `connection_params` is the payload by which a client opened a WebSocket, and `request` then its
    handshake. A bearer token precedes the session (`request.user`); a bad one is refused, never
    ignored. The `authenticator` setting replaces both.

    Raises:
        Unauthenticated: the credential is bad. The message is the same for every reason.
        ConfigurationError: the settings are wrong, or PyJWT is not installed.
    """
    is_socket = connection_params is not None
    # A socket has no end of a request, at which Django would close connections.
    in_thread = database_sync_to_async if is_socket else sync_to_async
    path = get_settings().authenticator
    user: Any
    if path is not None:
        subject = connection_params if is_socket else request
        if is_socket:  # an `async def` may query without `in_thread`
            await sync_to_async(close_old_outside_transactions)()
        user = await authenticator.aask(path, subject, in_thread)
    elif (bearer := bearer_of(request, connection_params)) is not None:
        user = await auser_of(bearer, in_thread)
    else:
        user = _session_user(request)
        if isinstance(user, LazyObject):
            # Not `request.auser()`: a middleware of the project may have set another user.
            await in_thread(contained(_load))(user)
    if user is None:
        raise Unauthenticated
    return user


def authenticate_sync(request: Any) -> Any:
    """`authenticate()` for synchronous code, such as a view under WSGI."""
    path = get_settings().authenticator
    user: Any
    if path is not None:
        user = authenticator.ask(path, request)
    elif (bearer := bearer_of(request)) is not None:
        user = user_of(bearer)
    else:
        user = _session_user(request)
        if isinstance(user, LazyObject):
            _load(user)
    if user is None:
        raise Unauthenticated
    return user


def _session_user(request: Any) -> Any:
    """Returns the session's user, which the middleware has set; it may be lazy."""
    from django.contrib.auth.models import AnonymousUser

    user = getattr(request, "user", None)
    if user is None:
        user = scope_of(request).get("user")
    return AnonymousUser() if user is None else user


def _load(user: Any) -> bool:
    return bool(user.is_authenticated)
