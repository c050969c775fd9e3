"""Incoming frames of a WebSocket: bounded, decoded and checked before use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from time import monotonic
from typing import Any, Final, cast

from django.core.exceptions import PermissionDenied
from strawberry.channels.handlers.ws_handler import MessageQueueData
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import (
    BaseGraphQLTransportWSHandler,
)
from strawberry.subscriptions.protocols.graphql_transport_ws.types import SubscribeMessage
from strawberry.types.graphql import OperationType

from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import BackendUnavailable, TooMany, Unauthenticated
from rail_async_tasks.graphql import answers
from rail_async_tasks.graphql.documents import operation_type
from rail_async_tasks.graphql.errors import graphql_error
from rail_async_tasks.graphql.limited import refusal_in_turn
from rail_async_tasks.graphql.shared import NotShared, payloads
from rail_async_tasks.graphql.socket_adapter import SocketAdapter
from rail_async_tasks.graphql.turns import turn

# A client that connects again subscribes to all that it follows at once.
BURST_SECONDS: Final = 3
# Frames that wait for the handler, which takes microseconds for each: only a flood gets here.
MAX_WAITING_FRAMES: Final = 128
MAX_WAITING_BYTES: Final = 1024 * 1024


def byte_length(text: str) -> int:
    """Returns the size of a text frame on the wire, in bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class FrameRate:
    """A token bucket: so many frames a second on the average, three seconds' worth at once."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._seen = clock()
        self._spent = 0.0  # frames that are not yet paid for by time

    def allows(self, per_second: int | None) -> bool:
        """Counts a frame; returns whether it is within the rate."""
        if per_second is None:
            return True
        now = self._clock()
        self._spent = max(self._spent - (now - self._seen) * per_second, 0.0) + 1
        self._seen = now
        return self._spent <= per_second * BURST_SECONDS


class FrameQueue:
    """A bounded queue of frames for a connection's handler."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[MessageQueueData] = asyncio.Queue()
        self._bytes = 0
        self._ended = False

    def offer(self, text: str | None) -> bool:
        """Adds a frame (None: not text). Returns False if the queue is full."""
        size = byte_length(text or "")
        if self._queue.qsize() >= MAX_WAITING_FRAMES or self._bytes + size > MAX_WAITING_BYTES:
            return False
        if not self._ended:
            self._bytes += size
            # An empty text is no JSON either; Strawberry's own consumer sees both as not text.
            self._queue.put_nowait({"message": text or None, "disconnected": False})
        return True

    def end(self) -> None:
        """Ends the handler's iteration, and drops the waiting frames."""
        if self._ended:
            return
        self._ended = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait({"message": None, "disconnected": True})

    async def get(self) -> MessageQueueData:
        """Returns the next frame, or the end."""
        item = await self._queue.get()
        self._bytes -= byte_length(item["message"] or "")
        return item


def frame_problem(frame: object) -> str | None:
    """Returns a protocol problem (graphql-transport-ws) of a decoded frame, or None."""
    if not isinstance(frame, dict):
        return "A message must be a JSON object"
    kind = frame.get("type")
    if not isinstance(kind, str):
        return "A message must have a type"
    if kind in ("subscribe", "complete"):
        id_ = frame.get("id")
        if not isinstance(id_, str) or not id_:
            return f"{kind} must have an id, a string that is not empty"
    if kind == "subscribe":
        return _subscription_problem(frame.get("payload"))
    if kind in ("connection_init", "ping", "pong"):
        return _optional_object_problem(frame, "payload", kind)
    return None


def _subscription_problem(payload: object) -> str | None:
    if not isinstance(payload, dict):
        return "subscribe must have a payload, an object"
    if not isinstance(payload.get("query"), str):
        return "The payload of subscribe must have a query, a string"
    if not isinstance(payload.get("operationName"), str | None):
        return "operationName must be a string"
    return _optional_object_problem(payload, "variables", "subscribe") or _optional_object_problem(
        payload, "extensions", "subscribe"
    )


def _optional_object_problem(frame: dict[str, Any], key: str, kind: str) -> str | None:
    if isinstance(frame.get(key), dict | None):
        return None
    return f"{key} of {kind} must be an object"


class TransportHandler(BaseGraphQLTransportWSHandler[RequestContext, None]):
    """Strawberry's handler of the protocol; checks each frame first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.subscriptions: set[str] = set()  # ids; some of them may have ended

    async def handle_message(self, message: Any) -> None:
        problem = frame_problem(message)
        if problem is not None:
            await self.handle_invalid_message(problem)
            return
        if message["type"] == "connection_init" and message.get("payload") is None:
            message = {"type": "connection_init"}  # clients send null for "no payload"
        await super().handle_message(message)

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        # Before the acknowledgement, and for an id in use, the socket is closed.
        if self.connection_acknowledged and message["id"] not in self.operations:
            answers.begin()  # the operation's task copies this context
            # The refusal reads the document, which the operation's context then has.
            query = message["payload"]["query"]
            refused = await refusal_in_turn(self.schema, query) or self._one_too_many(message)
            if refused is not None:
                payload = [graphql_error(refused).formatted]
                await self.send_message({"id": message["id"], "type": "error", "payload": payload})
                return
        await super().handle_subscribe(message)

    def _one_too_many(self, message: SubscribeMessage) -> TooMany | None:
        """Counts the operation, or returns the reason that it is one too many.

        Queries and mutations are counted apart, so that a client that follows as many tasks as it
        may can still cancel one.
        """
        id_, payload = message["id"], message["payload"]
        self.subscriptions &= self.operations.keys()
        self.subscriptions.discard(id_)
        kind = operation_type(payload["query"], payload.get("operationName"))
        is_subscription = kind is OperationType.SUBSCRIPTION
        running = len(self.subscriptions)
        if not is_subscription:
            running = len(self.operations) - running
        limit = get_settings().limits.subscriptions_per_socket
        if limit is not None and running >= limit:
            what = "subscriptions" if is_subscription else "queries and mutations"
            return TooMany(
                f"This socket has {running} {what} at once, as many as "
                f'limits["subscriptions_per_socket"] allows: end one, or open another socket.'
            )
        if is_subscription:
            self.subscriptions.add(id_)
        return None

    async def run_operation(self, operation: Any) -> None:
        """Runs an operation of a caller who may still be here, with the rights of now."""
        try:
            await self.view.renew_rights()  # type: ignore[attr-defined]
        except BackendUnavailable as error:
            await operation.send_initial_errors([graphql_error(error)])
        except (Unauthenticated, PermissionDenied):
            self.operations.pop(operation.id, None)  # the socket is being closed
        else:
            if not await self._share(operation):
                await turn(operation.query)
                await super().run_operation(operation)

    async def _share(self, operation: Any) -> bool:
        """Sends the results that subscribers share; returns whether it is such a subscription."""
        if not self._may_share():
            return False
        adapter = cast("SocketAdapter", self.websocket)
        head = f'{{"id":{json.dumps(operation.id)},"type":"next","payload":'
        results = payloads(
            self.schema, self.context, operation.query, operation.variables,
            operation.operation_name,
        )  # fmt: skip
        try:
            async with aclosing(results):
                async for payload in results:
                    await adapter.send_next(head, payload)
            await operation.send_operation_message({"id": operation.id, "type": "complete"})
        except NotShared:
            return False
        except WebSocketDisconnected:
            self.operations.pop(operation.id, None)
        return True

    def _may_share(self) -> bool:
        """Returns whether no class of the project's takes part in what is sent."""
        return (
            type(self) is TransportHandler
            and type(self.websocket) is SocketAdapter
            and self.view.sends_as_is  # type: ignore[attr-defined]
        )

    async def handle_task_exception(self, error: Exception) -> None:
        # A client that left in the middle of a message is not an error.
        if not isinstance(error, WebSocketDisconnected):
            await super().handle_task_exception(error)

    @staticmethod
    def _get_pre_execution_close_reason(error: Any) -> str | None:
        """Returns None: an unparsable query is an error of its operation alone.

        Strawberry closes the socket for it, and with that ends everything else that runs there.
        """
        return None
