"""Attack: documents and frames at random. No answer is a 5xx, no log has a traceback.

In short in every run; `make test-long` sends tens of thousands, and looks at the memory.
"""

from __future__ import annotations

import gc
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from rail_async_tasks.graphql.schema import get_schema
from rail_async_tasks.hosting import process as host
from tests.graphql.documents_at_random import Documents
from tests.support.api import Api, Configure
from tests.support.sockets import WAIT, Socket

# They break by design, run for as long as their arguments say, or never end.
LEFT_OUT = {"broken", "full", "brokenStream", "climb", "wander", "fall", "myTaskUpdates"}
SEED = int(time.time())
MEBIBYTE = 1024 * 1024

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
sizes = pytest.mark.parametrize(
    ("seed", "count"),
    [
        pytest.param(1, 120, id="short"),
        pytest.param(SEED, 20_000, id="long", marks=pytest.mark.long),
    ],
)  # fmt: skip


@pytest.fixture(autouse=True)
def quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged as an error, whatever was sent."""
    # Each 400 is a WARNING whose record pytest keeps, with its request: that would be the memory.
    requests = logging.getLogger("django.request")
    before = requests.level
    requests.setLevel(logging.ERROR)
    try:
        with caplog.at_level(logging.WARNING):
            yield
    finally:
        requests.setLevel(before)
    loud = [it for it in caplog.records if it.levelno >= logging.ERROR or it.exc_info]
    assert [(it.name, it.getMessage(), it.exc_text) for it in loud] == []


@pytest.fixture
async def ids(api: Api, database: Any, anyio_backend: Any) -> AsyncIterator[list[str]]:
    """Ids of tasks that exist."""
    found = []
    for number in range(3):
        answer = await api.send(f"mutation {{ add(a: {number}) {{ taskId }} }}")
        found.append(answer["data"]["add"]["taskId"])
    yield found
    await host.astop()


class Memory:
    """What this process uses, looked at while something runs again and again."""

    def __init__(self) -> None:
        self._before = 0

    def look(self, done: int, of: int) -> None:
        if done == of // 4:
            self._before = self._used()
        if done == of - 1 and of > 1000:
            grown = (self._used() - self._before) / MEBIBYTE
            assert grown < 50, f"{grown:.0f} MiB"

    @staticmethod
    def _used() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@sizes
async def test_documents_at_random(api: Api, ids: list[str], seed: int, count: int) -> None:
    """Over HTTP: data or errors with words, never a server's error."""
    documents = Documents(get_schema()._schema, random.Random(seed), ids, LEFT_OUT)
    memory, good = Memory(), 0
    for number in range(count):
        body = documents.operation()
        response = await api.post(body)
        # 406: a subscription, to which this client takes no events.
        assert response.status_code in (200, 400, 406), (seed, number, body, response.content)
        answer = json.loads(response.content)
        for error in answer.get("errors", ()):
            code = error.get("extensions", {}).get("code")
            assert code != "INTERNAL_ERROR", (seed, number, body, error)
            assert "Traceback" not in error["message"]
        good += answer.get("data") is not None
        memory.look(number, count)
    assert good > count / 20  # most of it is not refused for one and the same mistake


@sizes
async def test_frames_at_random(
    api: Api, configure: Configure, ids: list[str], seed: int, count: int
) -> None:
    """Each is answered, or closes the socket with a code of the protocol; an honest one works."""
    configure(backend="sync", limits={"frames_per_second": None})
    made = Documents(get_schema()._schema, random.Random(seed), ids, LEFT_OUT)
    memory, sockets, socket = Memory(), 0, None
    for number in range(count):
        if socket is None:
            socket = Socket()
            await socket.ready()
            sockets += 1
        frame = made.frame()
        kind = "bytes" if isinstance(frame, bytes) else "text"
        await socket.app.send_input({"type": "websocket.receive", kind: frame})
        await socket.send({"type": "ping"})
        code = await closed_or_answered(socket)
        if code is not None:
            assert code in (1009, 4400, 4401, 4403, 4409, 4429), (seed, number, frame, code)
            await socket.leave()
            socket = None
        memory.look(number, count)
    if socket is not None:
        await socket.leave()
    assert sockets < count * 2 / 3  # frames of one socket meet each other
    honest = Socket()
    await honest.ready()
    await honest.subscribe("{ shelves }")
    assert (await honest.receive())["payload"] == {"data": {"shelves": 3}}
    await honest.leave()


async def closed_or_answered(socket: Socket) -> int | None:
    """The code with which the socket was closed; None once a ping is answered."""
    while True:
        message = await socket.app.receive_output(WAIT)
        if message["type"] == "websocket.close":
            code: int = message["code"]
            return code
        answer = json.loads(message["text"])
        if answer["type"] == "pong":
            return None
