"""What the handler of a WebSocket sends by: bounded answers, and one sign of a closed socket."""

from __future__ import annotations

from collections.abc import Mapping

from strawberry.channels.handlers.ws_handler import ChannelsWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected

from rail_async_tasks.graphql import answers
from rail_async_tasks.graphql.errors import graphql_error


class SocketAdapter(ChannelsWebSocketAdapter):
    """Signals a closed socket to the handler in the one way that it understands."""

    async def send_json(self, message: Mapping[str, object]) -> None:
        text = self.view.encode_json_string(message)
        too_large = answers.too_large(len(text))
        if too_large is not None and message.get("type") == "next":
            payload = {"data": None, "errors": [graphql_error(too_large).formatted]}
            text = self.view.encode_json_string({**message, "payload": payload})
        await self._send(text)

    async def send_next(self, head: str, payload: str) -> None:
        """Sends a frame `next` of which the payload is encoded; `head` is all before that."""
        text = f"{head}{payload}}}"
        too_large = answers.too_large(len(text))
        if too_large is not None:
            refused = {"data": None, "errors": [graphql_error(too_large).formatted]}
            text = f"{head}{self.view.encode_json_string(refused)}}}"
        await self._send(text)

    async def _send(self, text: str) -> None:
        try:
            await self.ws_consumer.send(text)
        except Exception as error:  # each server has an exception of its own for it
            raise WebSocketDisconnected from error
