"""Every way to the same tasks: Python, GraphQL over HTTP, WebSocket and SSE, and REST.

An edge is one caller at one of them. `send` gives the bytes that came over the wire, `ask` what
they say: tasks as dicts with snake case names, or a `Refused`.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.projects.acceptance.service_views import COLUMNS
from tests.support.client import plain_http
from tests.support.server import Server
from tests.support.waiting import TIMEOUT, eventually

Task = dict[str, Any]

CSRF = "t" * 32


def camel(name: str) -> str:
    """`progress_message` as GraphQL spells it."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def snake(task: Task) -> Task:
    """A GraphQL task with its columns' names."""
    return {name: task[camel(name)] for name in COLUMNS}


FIELDS = " ".join(map(camel, COLUMNS))
PAYLOAD = f"taskId status error task {{ {FIELDS} }}"
LIST = "status: $status, name: $name, queue: $queue, limit: $limit, after: $after"
OPERATIONS = {
    "read": f"query($id: ID!) {{ it: task(id: $id) {{ {FIELDS} }} }}",
    "list": "query($status: String, $name: String, $queue: String, $limit: Int, $after: ID)"
    f" {{ it: tasks({LIST}) {{ {FIELDS} }} }}",
    "cancel": f"mutation($id: ID!) {{ it: cancelTask(id: $id) {{ {FIELDS} }} }}",
    "retry": f"mutation($id: ID!) {{ it: retryTask(id: $id) {{ {PAYLOAD} }} }}",
    "watch": f"subscription($id: ID!) {{ it: taskProgress(taskId: $id) {{ {FIELDS} }} }}",
}


@dataclass(frozen=True)
class Refused:
    """An error in place of a task."""

    code: str
    message: str


class Edge:
    """One caller, by a session's cookie or by a bearer."""

    def __init__(self, server: Server, cookie: str = "", bearer: str = "") -> None:
        self.server = server
        self.bearer = bearer
        self.headers = {"cookie": f"{cookie}; csrftoken={CSRF}"} if cookie else {}
        if bearer:
            self.headers["authorization"] = f"Bearer {bearer}"
        self.root = server.url.removesuffix("graphql/")

    async def send(self, do: str, **given: Any) -> Any:
        """All that is answered, except the time."""
        raise NotImplementedError

    def read(self, do: str, answer: Any) -> Any:
        """Returns the content of an answer."""
        raise NotImplementedError

    async def ask(self, do: str, **given: Any) -> Any:
        return self.read(do, await self.send(do, **given))

    async def until(self, task_id: str, **wanted: Any) -> Task:
        """The task once it is so."""
        task: Task = {}

        async def is_so() -> bool:
            task.update(await self.ask("read", id=task_id))
            return {name: task[name] for name in wanted} == wanted

        await eventually(is_so, lambda: task, every=0.02)
        return task

    async def _request(self, method: str, path: str, **request: Any) -> tuple[int, Any, bytes]:
        request["headers"] = {**self.headers, **request.pop("headers", {})}
        async with plain_http(timeout=TIMEOUT) as http:
            response = await http.request(method, self.root + path, **request)
        headers = [it for it in response.headers.multi_items() if it[0] != "date"]
        return response.status_code, headers, response.content


class Python(Edge):
    """The service's coroutines."""

    path = "plain/service"

    async def send(self, do: str, **given: Any) -> Any:
        content = json.dumps({"do": do, "with": given})
        return await self._request("POST", self.path, content=content)

    def read(self, do: str, answer: Any) -> Any:
        return _refused_or(json.loads(answer[2]))


class PythonThread(Python):
    """Their twins for threads."""

    path = "plain/service/thread"


class Http(Edge):
    """GraphQL in one request and one answer; a subscription as its stream of events."""

    accept = "application/json"

    async def send(self, do: str, **given: Any) -> Any:
        accept = "text/event-stream" if do == "watch" else self.accept
        return await self.operate(operation(do, given), accept)

    async def operate(self, payload: dict[str, Any], accept: str = "application/json") -> Any:
        """Returns the answer to any operation; its JSON may be invalid."""
        headers = {"accept": accept, "content-type": "application/json"}
        return await self._request("POST", "graphql/", content=json.dumps(payload), headers=headers)

    def read(self, do: str, answer: Any) -> Any:
        _, headers, content = answer
        if not dict(headers)["content-type"].startswith("text/event-stream"):
            return said(do, [json.loads(content)])
        events = [(name, json.loads(data)) for name, data in _events(content) if data]
        return said(do, [data for name, data in events if name == "next"])


class Sse(Http):
    """Everything as a stream: queries and mutations are streams of one event."""

    accept = "text/event-stream"


class Socket(Edge):
    """Everything over a WebSocket of its own."""

    async def send(self, do: str, **given: Any) -> Any:
        return await self.operate(operation(do, given))

    async def operate(self, operation: dict[str, Any]) -> Any:
        """The frames up to the end of any operation."""
        payload = {"authorization": f"Bearer {self.bearer}"} if self.bearer else {}
        headers = {name: it for name, it in self.headers.items() if name == "cookie"}
        frames: list[str] = []
        async with (
            asyncio.timeout(TIMEOUT),
            connect(
                self.server.ws,
                subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
                additional_headers=headers,
            ) as ws,
        ):
            await ws.send(json.dumps({"type": "connection_init", "payload": payload}))
            try:
                assert json.loads(await ws.recv()) == {"type": "connection_ack"}
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else None
                return [json.dumps({"type": "closed", "payload": code})]
            start = {"id": "1", "type": "subscribe", "payload": operation}
            await ws.send(json.dumps(start))
            while True:
                frames.append(str(await ws.recv()))
                if json.loads(frames[-1])["type"] in ("complete", "error"):
                    return frames

    def read(self, do: str, answer: Any) -> Any:
        frames = [json.loads(frame) for frame in answer]
        if frames[0]["type"] == "closed":
            # The protocol knows one way to turn a client away before its first operation.
            assert frames[0]["payload"] == 4403
            return Refused("UNAUTHENTICATED", "Authentication is required.")
        if frames[-1]["type"] == "error":
            return said(do, [{"errors": frames[-1]["payload"]}])
        return said(do, [frame["payload"] for frame in frames if frame["type"] == "next"])


class Rest(Http):
    """REST, which starts no task itself: that is done over GraphQL."""

    async def send(self, do: str, **given: Any) -> Any:
        if do == "start":
            return await super().send(do, **given)
        if do == "list":
            return await self._request("GET", "api/v1/tasks/", params=given)
        path = f"api/v1/tasks/{given['id']}/"
        if do in ("cancel", "retry"):
            return await self._request("POST", f"{path}{do}/", headers={"x-csrftoken": CSRF})
        return await self._request("GET", path + ("events/" if do == "watch" else ""))

    def read(self, do: str, answer: Any) -> Any:
        if do == "start":
            return super().read(do, answer)
        status, _, content = answer
        if do == "watch" and status == 200:
            return [json.loads(data) for name, data in _events(content) if name == "task"]
        body = _refused_or(json.loads(content))
        assert isinstance(body, Refused) == (status >= 400)
        return body["results"] if do == "list" and isinstance(body, dict) else body


EDGES: tuple[type[Edge], ...] = (Python, PythonThread, Http, Socket, Sse, Rest)


def operation(do: str, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the operation that a GraphQL client sends."""
    if do != "start":
        return {"query": OPERATIONS[do], "variables": given}
    arguments = {name: value for name, value in given.items() if name != "task"}
    written = ", ".join(f"{camel(name)}: {json.dumps(it)}" for name, it in arguments.items())
    call = camel(given["task"]) + (f"({written})" if written else "")
    return {"query": f"mutation {{ it: {call} {{ {PAYLOAD} }} }}"}


def said(do: str, results: list[dict[str, Any]]) -> Any:
    """Returns the content of a GraphQL operation's results."""
    if "errors" in results[-1]:
        [error] = results[-1]["errors"]
        return Refused(error["extensions"]["code"], error["message"])
    values = [result["data"]["it"] for result in results]
    if do == "watch":
        return [snake(value) for value in values]
    [value] = values
    if do == "list":
        return [snake(it) for it in value]
    if do in ("start", "retry"):
        task = snake(value["task"])
        assert (value["taskId"], value["status"], value["error"]) == (task["id"], "pending", None)
        return task
    return snake(value)


def _refused_or(body: Any) -> Any:
    if isinstance(body, dict) and "error" in body and "id" not in body:
        return Refused(**body["error"])
    return body


def _events(content: bytes) -> list[tuple[str, str]]:
    """The names and data of a stream's events."""
    found = []
    for block in content.decode().replace("\r\n", "\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in lines:
            found.append((lines["event"], lines.get("data", "")))
    return found
