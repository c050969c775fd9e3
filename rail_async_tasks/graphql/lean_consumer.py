"""A Channels consumer for many sockets: fewer tasks, threads and steps for each frame."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from channels.exceptions import StopConsumer  # type: ignore[import-untyped]
from strawberry.channels import GraphQLWSConsumer

from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.own_views import close_old_outside_transactions
from rail_async_tasks.together import Together


def _close_old(sockets: Sequence[None]) -> Sequence[None]:
    close_old_outside_transactions()
    return sockets


_with_fresh_connections: Final = Together(_close_old)


async def fresh_connections() -> None:
    """Closes old database connections, as Django does before a request."""
    await _with_fresh_connections(None)


class LeanConsumer(GraphQLWSConsumer[RequestContext, None]):
    """Strawberry's consumer without what Channels does for each frame.

    Channels closes old database connections in a thread before each message of the server, and
    makes a task for each. A subclass closes them before each operation: `fresh_connections`.
    """

    async def live(self, scope: Any, receive: Any, send: Any, *, layer: bool) -> None:
        """Handles the messages of the server; with `layer` those of the channel layer, too."""
        if layer:
            await super().__call__(scope, receive, send)
            return
        self.scope, self.base_send, self.channel_layer = scope, send, None
        with suppress(StopConsumer):
            while True:
                await self.dispatch(await receive())

    async def dispatch(self, message: Any) -> None:
        if message["type"] == "websocket.receive":
            await self.websocket_receive(message)
        elif message["type"] == "websocket.connect":
            await self.websocket_connect(message)
        else:
            await super().dispatch(message)

    async def send(self, text_data: Any = None, bytes_data: Any = None, close: Any = False) -> None:
        if text_data is None or close:
            await super().send(text_data, bytes_data, close)
        else:  # as Channels does, in fewer steps
            await self.base_send({"type": "websocket.send", "text": text_data})

    @property
    def sends_as_is(self) -> bool:
        """Whether no class of the project's encodes what is sent."""
        return type(self).encode_json is LeanConsumer.encode_json
