"""One client of the whole ASGI application, in process: HTTP, server-sent events, WebSocket.

Not Django's test client: that goes round the handler, and so round `FORCE_SCRIPT_NAME`, the scheme
and the signals at which connections are closed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from asgiref.testing import ApplicationCommunicator

from tests.support.sockets import Socket
from tests.support.waiting import TIMEOUT


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Driver:
    """`prefix` is what the server leaves in the path, `root_path` what it says it has mounted."""

    application: Any
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] | None = None
    prefix: str = ""
    root_path: str = ""
    scheme: str = "http"

    def _scope(self, kind: str, path: str, **more: Any) -> dict[str, Any]:
        path, _, query = path.partition("?")
        headers = {"host": "localhost", **self.headers, **more.pop("headers", {})}
        return {
            "type": kind,
            "path": self.prefix + path,
            "root_path": self.root_path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            **more,
        }

    async def http(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """The whole answer, to the end of a stream."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        scope = self._scope("http", path, method=method, scheme=self.scheme, headers=named)
        request = ApplicationCommunicator(self.application, scope)
        await request.send_input({"type": "http.request", "body": body})
        start = await request.receive_output(TIMEOUT)
        parts = []
        while True:
            part = await request.receive_output(TIMEOUT)
            parts.append(part.get("body", b""))
            if not part.get("more_body"):
                break
        await request.wait(TIMEOUT)
        found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], found, b"".join(parts))

    async def graphql(self, query: str) -> Any:
        """The data of an operation by POST."""
        body = json.dumps({"query": query}).encode()
        answer = await self.http("POST", "/graphql/", body, content_type="application/json")
        assert answer.status == 200, (answer.status, answer.headers, answer.body)
        return answer.json()["data"]

    async def followed(self, task_id: str) -> str:
        """The last status that REST's events show."""
        answer = await self.http("GET", f"/api/v1/tasks/{task_id}/events/")
        assert answer.status == 200, (answer.status, answer.headers, answer.body)
        last = answer.body.decode().rpartition("data: ")[2]
        return str(json.loads(last)["status"])

    async def over_socket(self, *queries: str) -> list[Any]:
        """The last data of each operation, or the errors, one after the other over one WebSocket.

        `%s` in a query is the `taskId` of the one before.
        """
        scope = self._scope("websocket", "/graphql/", subprotocols=["graphql-transport-ws"])
        socket = Socket(application=self.application, scope=scope)
        opened = await socket.open()
        assert opened["type"] == "websocket.accept", opened
        await socket.send({"type": "connection_init", "payload": self.params})
        assert (await socket.receive())["type"] == "connection_ack"
        found: list[Any] = []
        for query in queries:
            if "%s" in query:
                (before,) = found[-1].values()
                query = query.replace("%s", before["taskId"])
            await socket.subscribe(query)
            last = None
            while (frame := await socket.receive())["type"] != "complete":
                assert frame["type"] == "next", frame
                last = frame["payload"].get("errors") or frame["payload"]["data"]
            found.append(last)
        await socket.leave()
        return found
