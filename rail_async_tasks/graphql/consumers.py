"""GraphQL over WebSocket (graphql-transport-ws), for clients that may be broken or hostile.

Strawberry's consumer speaks the protocol. This one ensures that a socket is either served or
closed: a handler that dies closes its socket, waiting frames are bounded, and every connection is
cleaned up at its end.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, cast
from weakref import WeakSet

from django.core.handlers.asgi import ASGIRequest
from strawberry.channels import GraphQLWSConsumer
from strawberry.exceptions import ConnectionRejectionError
from strawberry.schema.base import BaseSchema
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.unset import UNSET

from rail_async_tasks.auth.context import RequestContext, handshake_request
from rail_async_tasks.auth.losses import Loss
from rail_async_tasks.auth.open_connections import (
    Place,
    address_key,
    sockets_of_addresses,
    sockets_of_users,
    user_key,
)
from rail_async_tasks.auth.rights import Guard
from rail_async_tasks.errors import TaskError, TooMany, Unauthenticated
from rail_async_tasks.graphql.bodies import decode_json
from rail_async_tasks.graphql.documents import limits_in_force
from rail_async_tasks.graphql.frames import (
    FrameQueue,
    FrameRate,
    TransportHandler,
    byte_length,
)
from rail_async_tasks.graphql.handshake import handshake_problem
from rail_async_tasks.graphql.lean_consumer import LeanConsumer, fresh_connections
from rail_async_tasks.graphql.limited import served
from rail_async_tasks.graphql.routes import schema_at
from rail_async_tasks.graphql.socket_adapter import SocketAdapter
from rail_async_tasks.hosting import server
from rail_async_tasks.language import activate_for_socket
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.servers import first_request

logger = get_logger("rail_async_tasks.graphql")

# A GraphQL client sends connection_init at once.
INIT_TIMEOUT: Final = timedelta(seconds=10)
# For the clean-up of a closed connection, after which it is cancelled.
CLEAN_UP_SECONDS: Final = 5.0

# Close codes: RFC 6455, section 7.4.1, and the registry that it opens (1012).
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012
# A close frame holds 125 bytes, two of them the code: RFC 6455, section 5.5.
MAX_REASON_BYTES: Final = 123


_open: WeakSet[TaskGraphQLConsumer] = WeakSet()


async def close_all_for_restart() -> None:
    """Closes every socket of this process, so that clients reconnect to another one."""
    await asyncio.gather(*(consumer.close_for_restart() for consumer in list(_open)))


server.on_drain(close_all_for_restart)


class TaskGraphQLConsumer(LeanConsumer):
    """One WebSocket connection."""

    websocket_adapter_class = SocketAdapter  # type: ignore[assignment]
    graphql_transport_ws_handler_class = TransportHandler
    request: ASGIRequest

    def __init__(self, schema: BaseSchema | None = None) -> None:
        """Without `schema`, serves that of the view at the same path, else that of the settings."""
        self._own_schema = schema
        super().__init__(
            # Set at the handshake: a wrong setting must not break the routing.
            schema=cast("BaseSchema", schema),
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            connection_init_wait_timeout=INIT_TIMEOUT,
            # Its limit counts a cancel among the subscriptions; the handler of ours has one.
            max_subscriptions_per_connection=None,
        )
        self._frames = FrameQueue()
        self._rate = FrameRate()
        self._places: list[Place] = []  # among the open sockets of the address and of the user
        self.message_queue = self._frames  # type: ignore[assignment]
        self._closed = False
        # The handshake ends with `connection_ack`; until then a close refuses the client.
        self._acknowledged = False
        self._guard: Guard | None = None
        self._context: RequestContext | None = None
        self._closing: asyncio.Task[None] | None = None
        self._refusal: str | None = None  # the log's reason, where the close frame has less

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            # A class of the project's may use its channel layer.
            await self.live(scope, receive, send, layer=type(self) is not TaskGraphQLConsumer)
        finally:
            # Also reached without `disconnect()`, when the server cancels the application.
            try:
                await self._end_handler()
            finally:
                for place in self._places:
                    place.close()

    # The life of a connection

    async def connect(self) -> None:
        await first_request.arrived()
        self.request = handshake_request(dict(self.scope))
        problem = handshake_problem(self.request)
        if problem is None:
            try:
                found: Any = self._own_schema or schema_at(self.request.path_info)
                self.schema = served(found)
                self._places.append(sockets_of_addresses.open(address_key(self.scope)))
            except TooMany as error:
                await self._refuse_one_too_many(error)
                return
            except TaskError as error:
                problem = str(error)
        if problem is not None:
            self._refusal = problem
            await self.close()
            return
        _open.add(self)
        self.run_task = asyncio.create_task(self._serve())

    async def _refuse_one_too_many(self, error: TooMany) -> None:
        """Accepts and closes: a browser shows no reason of a handshake that was refused."""
        self._refusal = error.message
        offered = self.scope["subprotocols"]
        known = GRAPHQL_TRANSPORT_WS_PROTOCOL in offered
        await self.accept(GRAPHQL_TRANSPORT_WS_PROTOCOL if known else None)
        await self.close(POLICY_VIOLATION, f"{error.code}: {error.message}")

    async def _serve(self) -> None:
        try:
            activate_for_socket(self.request)
            await self.run(self)
        except Exception:
            logger.exception("The handler of a WebSocket died.")
        finally:
            # However the handler ended, this socket is no longer served.
            await self.close(INTERNAL_ERROR)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._closed:
            return
        limits = limits_in_force()
        most = limits.frame_bytes
        if most is not None and byte_length(text_data or "") > most:
            reason = f'A message is larger than limits["frame_bytes"] allows: {most}'
            await self.close(TOO_BIG, reason)
        elif not self._rate.allows(limits.frames_per_second):
            rate = limits.frames_per_second
            reason = f'More than {rate} messages a second (limits["frames_per_second"])'
            await self.close(POLICY_VIOLATION, reason)
        elif not self._frames.offer(text_data):
            await self.close(POLICY_VIOLATION, "Too many messages at once")

    async def disconnect(self, code: int) -> None:
        self._closed = True
        await self._end_handler()

    async def _end_handler(self) -> None:
        """Lets the handler end every operation; cancels it after a timeout."""
        self._frames.end()
        if self._guard is not None:
            self._guard.close()
        task = self.run_task
        if task is None:
            return
        done, _ = await asyncio.wait({task}, timeout=CLEAN_UP_SECONDS)
        if not done:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    # Outgoing frames

    async def send(self, text_data: Any = None, bytes_data: Any = None, close: Any = False) -> None:
        # Drops the frames of operations after the close; above all `complete`, by which the client
        # would believe that its task's updates are over.
        lost = self._guard is not None and self._guard.lost is not None
        if not self._closed and not lost:
            await super().send(text_data, bytes_data, close)

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Closes once, and lets the handler end. Drops later frames."""
        if self._closed:
            return
        self._closed = True
        self._frames.end()
        if not self._acknowledged and code != SERVICE_RESTART:
            # The line holds nothing of the client's credential.
            logger.warning(
                "WebSocket refused: %.500s (close code %s)",
                self._refusal or repr(reason),  # a reason may quote the client
                code or "none: HTTP 403",
            )
        if reason is not None:
            reason = reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")
        with suppress(Exception):  # as for sending: the client may have gone first
            await super().close(code=code, reason=reason)

    async def close_for_restart(self) -> None:
        """Closes with 1012, without completing subscriptions, so that the client reconnects."""
        await self.close(SERVICE_RESTART, "Service restart")

    # The right to be here

    def _watch_rights(self, context: RequestContext) -> None:
        """Closes the socket once its caller has lost the right to it."""
        self._context, self._guard = context, context.guard()
        if self._guard is not None:
            self._guard.on_lost = self._lost
            self._guard.__enter__()  # `_end_handler` closes it

    def _lost(self, loss: Loss) -> None:
        self._closing = asyncio.create_task(self.close(loss.close_code, loss.message))

    async def renew_rights(self) -> None:
        """Asks again who the caller is and what they may do, before an operation.

        Raises what `Guard.ask` raises; the socket is closed where the right is lost.
        """
        if self._guard is None or self._guard.claim is None:
            await fresh_connections()
        if self._guard is None or self._context is None:
            return
        standing = await self._guard.ask()
        if standing is not None:
            self._context.renew(standing.user, standing.viewer)

    # Hooks of Strawberry

    async def get_context(
        self, request: GraphQLWSConsumer[Any, Any], response: GraphQLWSConsumer[Any, Any]
    ) -> RequestContext:
        return RequestContext(request=self.request, response=cast("Any", None))

    async def on_ws_connect(self, context: RequestContext) -> Any:
        try:
            await context.authenticate()
        except Unauthenticated:
            self._refusal = "its credential is bad; the logger rail_async_tasks.auth has the reason"
            raise ConnectionRejectionError from None  # closes with 4403
        except TaskError as error:
            logger.exception("A WebSocket cannot be served.")
            await self.close(INTERNAL_ERROR, error.message)
            raise ConnectionRejectionError from None
        except Exception:  # see `TaskGraphQLView.dispatch`
            logger.exception("A WebSocket cannot be served.")
            await self.close(INTERNAL_ERROR, "Internal server error.")
            raise ConnectionRejectionError from None
        try:
            self._places.append(sockets_of_users.open(user_key(context.user)))
        except TooMany as error:
            self._refusal = error.message
            await self.close(POLICY_VIOLATION, f"{error.code}: {error.message}")
            raise ConnectionRejectionError from None
        self._acknowledged = True
        self._watch_rights(context)
        return UNSET

    async def pick_websocket_subprotocol(self, request: GraphQLWSConsumer[Any, Any]) -> str | None:
        chosen = await super().pick_websocket_subprotocol(request)
        if chosen is None:
            offered = request.scope["subprotocols"]
            self._refusal = (
                f"it offers the subprotocols {offered!r:.200}; {GRAPHQL_TRANSPORT_WS_PROTOCOL} is"
                " required"
            )
        return chosen

    def decode_json(self, data: str | bytes) -> object:
        return decode_json(data)

    def is_websocket_origin_allowed(
        self, request: GraphQLWSConsumer[Any, Any], origin: str
    ) -> bool:
        return True  # connect() has decided
