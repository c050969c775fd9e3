"""A client of the server under test: GraphQL over HTTP, SSE and WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.support.server import Server
from tests.support.waiting import TIMEOUT, eventually

FINAL = ("completed", "failed", "cancelled")
FIELDS = (
    "id name status progress progressMessage result error errorCode cancelRequested"
    " attempts retryCount ownerId parentId seq step"
)
FOLLOW = f"subscription($id: ID!) {{ taskProgress(taskId: $id) {{ {FIELDS} }} }}"
FOLLOW_MINE = f"subscription {{ myTaskUpdates {{ {FIELDS} }} }}"

Event = dict[str, Any]


def plain_http(**options: Any) -> httpx.AsyncClient:
    """Makes a client without TLS: to load the certificates would take 30 ms of CPU per client."""
    return httpx.AsyncClient(verify=False, **options)


class Client:
    """A client with a session's cookie, or anonymous. `payload` goes into `connection_init`."""

    def __init__(self, server: Server, cookie: str = "", *, payload: Any = None) -> None:
        self.server = server
        self.payload = payload
        self.headers = {"cookie": cookie} if cookie else {}
        # Servers close idle connections after 5 s: a request must not meet that moment.
        limits = httpx.Limits(max_connections=100, keepalive_expiry=2)
        self.http = plain_http(timeout=TIMEOUT, headers=self.headers, limits=limits)

    async def post(self, query: str, **variables: Any) -> httpx.Response:
        body = {"query": query, "variables": variables}
        return await self.http.post(self.server.url, json=body)

    async def ask(self, query: str, **variables: Any) -> Any:
        """The data of an answer without errors."""
        response = await self.post(query, **variables)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert "errors" not in answer, answer
        return answer["data"]

    async def error_code(self, query: str, **variables: Any) -> str:
        """The code of the one error of an answer."""
        [error] = (await self.post(query, **variables)).json()["errors"]
        return str(error["extensions"]["code"])

    async def start(self, call: str) -> str:
        """Starts a task by its mutation, which answers at once. Returns the task's id."""
        answer = await self.ask(f"mutation {{ it: {call} {{ taskId status error }} }}")
        payload = answer["it"]
        assert (payload["status"], payload["error"]) == ("pending", None)
        return str(payload["taskId"])

    async def task(self, task_id: str) -> Event:
        """The task as it stands."""
        query = f"query($id: ID!) {{ task(id: $id) {{ {FIELDS} }} }}"
        found: Event = (await self.ask(query, id=task_id))["task"]
        return found

    async def final(self, task_id: str) -> Event:
        """The task once it has ended."""
        if not self.server.kind.streams:
            return await self._poll(task_id, FINAL)
        return (await self.everything(self.by_socket(task_id)))[-1]

    async def until(self, task_id: str, status: str) -> Event:
        """The task once it has that status, which it must reach."""
        if not self.server.kind.streams:
            return await self._poll(task_id, (status,))
        async with asyncio.timeout(TIMEOUT), aclosing(self.by_socket(task_id)) as events:
            async for event in events:
                if event["status"] == status:
                    return event
        raise AssertionError(f"The task ended without having been {status}.")

    async def _poll(self, task_id: str, statuses: Collection[str]) -> Event:
        """The task once it has one of these, asked again and again."""
        found: Event = {}

        async def has_one() -> bool:
            found.update(await self.task(task_id))
            return found["status"] in statuses

        await eventually(has_one, lambda: found, every=0.05)
        return found

    @staticmethod
    async def everything(events: AsyncIterator[Event]) -> list[Event]:
        """All events of a stream that ends by itself."""
        async with asyncio.timeout(TIMEOUT):
            return [event async for event in events]

    @staticmethod
    async def confirmed(events: AsyncIterator[Event], folder: Path) -> list[Event]:
        """The same of a task that waits for a file per step, named by the step's message."""
        seen: list[Event] = []
        async with asyncio.timeout(TIMEOUT):
            async for event in events:
                seen.append(event)
                message = event.get("progressMessage", event.get("progress_message"))
                if message:
                    (folder / message).touch()
        return seen

    # --- streams: each yields the events of one task, or of the client's tasks -------------------

    def stream(self, transport: str, task_id: str) -> Any:
        """A task's events, over `socket`, `sse` (POST) or `eventsource` (GET)."""
        if transport == "socket":
            return self.by_socket(task_id)
        return self.by_sse(task_id, get=transport == "eventsource")

    async def by_sse(self, task_id: str, *, get: bool = False) -> AsyncIterator[Event]:
        async with self.sse(FOLLOW, {"id": task_id}, get=get) as lines:
            async for name, data in lines:
                if name == "complete":
                    return
                yield data["data"]["taskProgress"]
        raise AssertionError("The stream ended without `complete`.")

    @asynccontextmanager
    async def sse(
        self, query: str, variables: dict[str, Any], *, get: bool = False
    ) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
        """An open SSE stream: its events' names and data."""
        headers = {"accept": "text/event-stream"}
        if get:
            params = {"query": query, "variables": json.dumps(variables)}
            opening = self.http.stream("GET", self.server.url, params=params, headers=headers)
        else:
            body = {"query": query, "variables": variables}
            opening = self.http.stream("POST", self.server.url, json=body, headers=headers)
        async with opening as response:
            assert response.headers["content-type"] == "text/event-stream"
            yield _events(response)

    async def by_socket(self, task_id: str) -> AsyncIterator[Event]:
        async with self.socket() as ws:
            await subscribe(ws, FOLLOW, {"id": task_id})
            async for frame in ws:
                message = json.loads(frame)
                if message["type"] == "complete":
                    return
                assert message["type"] == "next", message
                yield message["payload"]["data"]["taskProgress"]
        raise AssertionError("The socket was closed without `complete`.")

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientConnection]:
        """A WebSocket that is ready for operations."""
        async with connect(
            self.server.ws,
            subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
            additional_headers=self.headers,
            open_timeout=TIMEOUT,
            # No pings: a server without a processor for 20 s has not gone away.
            ping_interval=None,
        ) as ws:
            payload = {} if self.payload is None else {"payload": self.payload}
            await ws.send(json.dumps({"type": "connection_init", **payload}))
            assert json.loads(await ws.recv()) == {"type": "connection_ack"}
            yield ws


async def subscribe(
    ws: ClientConnection, query: str, variables: dict[str, Any], name: str = "1"
) -> None:
    payload = {"query": query, "variables": variables}
    await ws.send(json.dumps({"type": "subscribe", "id": name, "payload": payload}))


async def _events(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            text = line.removeprefix("data:").strip()
            yield name, json.loads(text) if text else None
            name = ""
        elif not line and name:
            yield name, None
            name = ""
