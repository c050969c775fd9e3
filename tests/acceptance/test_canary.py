"""Attack: read what was sent in confidence, in logs at DEBUG, Redis, metrics and others' answers.

A canary is a word that stands for a secret. One goes in by each way there is, and comes out by
none but the answer to its own sender.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from cryptography.fernet import Fernet
from django.contrib.auth.models import Permission, User
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.acceptance.edges import Edge, Http, Refused, Rest, Sse
from tests.support.places import Place, logged_in
from tests.support.server import Server
from tests.support.waiting import TIMEOUT

pytestmark = [pytest.mark.redis, pytest.mark.parametrize("place", ["sqlite"], indirect=True)]

WAYS = (
    "header", "cookie", "bearer", "variable", "inline", "payload", "frame", "body", "key",
)  # fmt: skip
CANARIES = {way: f"canary{number:02}{way}Zq7" for number, way in enumerate(WAYS)}
KEY = CANARIES["key"].ljust(48, "x")
FERNET = Fernet.generate_key().decode()
SECRETS = (*CANARIES.values(), FERNET)


@contextmanager
def monitored(port: int) -> Iterator[list[str]]:
    """Everything that any client sends to the Redis meanwhile."""
    lines: list[str] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"MONITOR\r\n")
        stream = connection.makefile("r", errors="replace", newline="\r\n")
        assert stream.readline().startswith("+OK")
        reader = threading.Thread(target=lambda: lines.extend(stream))
        reader.start()
        yield lines
        connection.shutdown(socket.SHUT_RDWR)
        reader.join(TIMEOUT)


class Sender(Http):
    """Ada, whose requests have a canary in a header and in a cookie."""

    def __init__(self, server: Server, cookie: str) -> None:
        super().__init__(server, f"{cookie}; note={CANARIES['cookie']}")
        self.headers["x-note"] = CANARIES["header"]

    async def run(self, query: str, **variables: Any) -> Any:
        """The decoded answer of an operation."""
        answer = await self.operate({"query": query, "variables": variables})
        return json.loads(answer[2])


# Each operation with its argument, and whether it starts a task.
MUTATIONS = {
    "take": ("mutation{args} {{ it: take(data: {text}) {{ taskId }} }}", "JSON!", True),
    "sealed": ("mutation{args} {{ it: sealed(text: {text}) {{ taskId }} }}", "String!", True),
    "spill": ("mutation{args} {{ it: spill(text: {text}) {{ taskId }} }}", "String!", True),
    "guarded": ("mutation{args} {{ it: guarded(text: {text}) {{ taskId }} }}", "String!", False),
    "echo": ("query{args} {{ it: echo(text: {text}) }}", "String!", False),
    "wrong": ("query{args} {{ it: wrong(text: {text}) }}", "String!", False),
    "number": ("mutation{args} {{ it: cling(seconds: {text}) {{ taskId }} }}", "Float!", False),
    "id": ("query{args} {{ it: task(id: {text}) {{ id }} }}", "ID!", False),
    "filter": ("query{args} {{ it: tasks(status: {text}) {{ id }} }}", "String!", False),
}  # fmt: skip


def written(name: str, way: str) -> tuple[str, dict[str, Any]]:
    """The document and variables of an operation, by one way of giving arguments."""
    text, kind, _ = MUTATIONS[name]
    if way == "inline":
        return text.format(args="", text=json.dumps(CANARIES[way])), {}
    return text.format(args=f"($v: {kind})", text="$v"), {"v": CANARIES[way]}


async def over_http(ada: Sender) -> list[str]:
    """Every operation, by variables and inline. Returns the ids of the tasks that were started."""
    ids = []
    for name, (*_, starts) in MUTATIONS.items():
        for way in ("variable", "inline"):
            query, variables = written(name, way)
            answer = await ada.run(query, **variables)
            if starts:
                ids.append(answer["data"]["it"]["taskId"])
            else:
                assert "errors" in answer, (name, answer)
    await ada._request("POST", "graphql/", content='{"query": "' + CANARIES["body"])
    bad = Rest(ada.server, bearer=CANARIES["bearer"])
    assert isinstance(await bad.ask("list"), Refused)
    return ids


async def over_sockets(ada: Sender) -> None:
    """A bad credential in the payload, a note in it, operations, and frames that are none."""

    async def frames(*sent: str) -> None:
        headers = {"cookie": ada.headers["cookie"], "x-note": CANARIES["header"]}
        async with connect(
            ada.server.ws,
            subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
            additional_headers=headers,
        ) as ws:
            for frame in sent:
                await ws.send(frame)
            async with asyncio.timeout(TIMEOUT):
                while json.loads(await ws.recv())["type"] not in ("error", "complete"):
                    pass

    def init(payload: Any) -> str:
        return json.dumps({"type": "connection_init", "payload": payload})

    note = init({"note": CANARIES["payload"]})
    for name in MUTATIONS:
        for way in ("variable", "inline"):
            query, variables = written(name, way)
            operation = {"query": query, "variables": variables}
            await frames(note, json.dumps({"type": "subscribe", "id": "1", "payload": operation}))
    for sent in (
        (init({"authorization": f"Bearer {CANARIES['payload']}"}),),
        (note, CANARIES["frame"]),
        (note, json.dumps({"type": CANARIES["frame"]})),
        (note, json.dumps({"type": "subscribe", "id": [CANARIES["frame"]], "payload": {}})),
        (note, json.dumps({"type": "subscribe", "id": "1", "payload": CANARIES["frame"]})),
    ):
        with pytest.raises(ConnectionClosed):
            await frames(*sent)


def found_in(text: str) -> list[str]:
    return [it for it in SECRETS if it in text]


async def others(server: Server, bob: str, staff: str, ids: list[str]) -> str:
    """All that another user, an anonymous caller, the metrics and the probes get."""
    said = []
    for edge in (Http(server, bob), Sse(server, bob), Rest(server, bob), Http(server)):
        for task_id in ids:
            said += [await edge.send(do, id=task_id) for do in ("read", "watch", "cancel", "retry")]
        said.append(await edge.send("list"))
    edge = Edge(server, staff)
    for path in ("tasks/metrics", "tasks/health/live", "tasks/health/ready"):
        answer = await edge._request("GET", path)
        assert answer[0] == 200
        said.append(answer)
    return repr(said)


@asynccontextmanager
async def serving(env: Any, logs: list[str], **options: Any) -> AsyncIterator[Server]:
    """A server whose log is kept. Fields break in it, so that tracebacks are no alarm."""
    server = Server(env, **options)
    try:
        await asyncio.to_thread(server.wait_until_it_answers)
        yield server
        server.terminate()
        await asyncio.to_thread(server.wait, TIMEOUT)
        logs.append(server.said())
    finally:
        server.stop()


@sync_to_async
def operator() -> str:
    """The cookie of a member of staff who may see the metrics."""
    cookie = logged_in("operator")
    user = User.objects.get(username="operator")
    User.objects.filter(pk=user.pk).update(is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_taskexecution"))
    return cookie


async def test_a_canary_comes_out_nowhere(place: Place, own_redis: Any) -> None:
    """Of headers, cookies, tokens, arguments, exceptions, results, frames and settings."""
    env = {**place.env, "DJANGO_SETTINGS_MODULE": "tests.projects.acceptance.debug_settings"}
    options: dict[str, Any] = {
        "redis_url": f"redis://127.0.0.1:{own_redis.port}/0", "drain_seconds": 1,
        "jwt": {"key": KEY, "algorithms": ["HS256"]}, "encryption_keys": [FERNET],
        "metrics_enabled": True, "audit_enabled": True, "log_failures": False,
        "log_task_start": True, "log_task_complete": True, "slow_task_threshold_seconds": 0,
    }  # fmt: skip
    staff = await operator()
    logs: list[str] = []
    with monitored(own_redis.port) as commands:
        async with serving(env, logs, **options) as server:
            ada = Sender(server, place.cookies["ada"])
            ids = await over_http(ada)
            ended = [(await ada.ask("watch", id=it))[-1] for it in ids]
            await over_sockets(ada)
            answers = await others(server, place.cookies["bob"], staff, ids)
        async with serving(env, logs, **options, backend="arq") as broker:
            waiting = await over_http(Sender(broker, place.cookies["ada"]))
    log = "".join(logs)
    # The canaries were really there: the sender reads results and the exception's text.
    given = repr(ended)
    assert {CANARIES["variable"], CANARIES["inline"]} <= set(found_in(given))
    assert f"no such text: {CANARIES['variable']}" in given
    assert "DEBUG" in log
    assert "the resolver broke" in log
    assert any("PUBLISH" in it for it in commands)
    assert any("arq" in it and waiting[0] in it for it in commands)
    assert found_in(log) == []
    assert found_in("".join(commands)) == []
    assert found_in(answers) == []
