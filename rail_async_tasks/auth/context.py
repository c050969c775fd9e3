"""The request behind an operation or a REST call, as permission classes and resolvers read it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from strawberry.django.context import StrawberryDjangoContext

from rail_async_tasks.access import Viewer
from rail_async_tasks.auth.caller import Caller, acaller, authenticate
from rail_async_tasks.auth.rights import Guard


@dataclass
class RequestContext(StrawberryDjangoContext):
    """`info.context`, the same over HTTP, SSE and WebSocket.

    `user` is loaded, so that permission classes and resolvers that are not async may use it; so is
    `request.user`. Over a WebSocket `request` is the handshake, `response` is None, and
    `connection_params` is what the client sent when it initialised the connection.
    """

    user: Any = None
    connection_params: dict[str, Any] | None = field(default=None, repr=False)
    # The operation ends by itself (a query, a mutation), or has ended: a subscription whose task
    # is final. Otherwise an ending stream only means that this process is going away.
    ended: bool = field(default=False, repr=False)
    _caller: Caller | None = field(default=None, repr=False)

    async def authenticate(self) -> None:
        """Authenticates the request. To be awaited before the first operation.

        Raises `Unauthenticated` for a bad credential, and `ConfigurationError`.
        """
        self._set_user(await authenticate(self.request, self.connection_params))

    def _set_user(self, user: Any) -> None:
        async def auser() -> Any:
            return user

        self.user = self.request.user = user
        # Django's own reads the session, which may belong to another user.
        self.request.auser = auser

    def guard(self) -> Guard | None:
        """Returns the guard of the authenticated caller; None for an anonymous one."""
        viewer = None if self._caller is None else self._caller.viewer
        return Guard.of(self.user, self.request, self.connection_params, viewer)

    def renew(self, user: Any, rights: Viewer) -> None:
        """Takes the user and rights that a check has found. The tenant stays."""
        self._set_user(user)
        if self._caller is not None:
            viewer = replace(rights, tenant_id=self._caller.tenant_id)
            self._caller = Caller(user, viewer)

    async def caller(self) -> Caller:
        """Returns the user and their rights, looked up at the first call."""
        if self._caller is None:
            self._caller = await acaller(self.user, self.request)
        return self._caller


def handshake_request(scope: dict[str, Any]) -> ASGIRequest:
    """Returns a WebSocket's handshake as a Django request, with the middleware's attributes.

    So permissions, tenant resolvers and resolvers read one kind of object over every transport.
    """
    request = ASGIRequest({**scope, "type": "http", "method": "GET"}, BytesIO())
    for name in ("user", "session", "tenant_id", "tenant"):
        if name in scope:
            setattr(request, name, scope[name])
    return request
