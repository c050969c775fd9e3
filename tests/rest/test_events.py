"""A task's changes as server-sent events, in process."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.test import AsyncClient

from rail_async_tasks import service
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.rest import events
from tests.rest import shelf
from tests.rest.conftest import ROOT, Configure, Rest, code_of, end_of, finished, start, waiting
from tests.rest.spec import check_task
from tests.support.waiting import TIMEOUT, eventually

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


class Stream:
    """The events of a response, one by one."""

    def __init__(self, response: Any) -> None:
        assert response.status_code == 200
        self.chunks = response.streaming_content

    async def next(self) -> dict[str, Any]:
        """The next event's task, or an empty one for a comment."""
        chunk = await asyncio.wait_for(anext(self.chunks), TIMEOUT)
        return decoded(chunk)

    async def rest(self) -> list[dict[str, Any]]:
        """All that comes, to the end."""
        async with asyncio.timeout(TIMEOUT):
            return [decoded(chunk) async for chunk in self.chunks]


def decoded(chunk: bytes) -> dict[str, Any]:
    """The task of one event, whose form is looked at."""
    if chunk.startswith(b":"):
        assert chunk.endswith(b"\n\n")
        return {}
    event, identifier, data, *end = chunk.decode().split("\n")
    task: dict[str, Any] = json.loads(data.removeprefix("data: "))
    assert (event, end) == ("event: task", ["", ""])
    assert identifier == f"id: {task['seq']}.{task['step']}"
    check_task(task)
    return task


async def follow(rest: Rest, task_id: str, last: str | None = None) -> Stream:
    headers = {} if last is None else {"last-event-id": last}
    return Stream(await rest.get(f"{task_id}/events/", headers=headers))


def subscribers() -> int:
    return host.bus().statistics()["subscribers"]


async def none_is_subscribed() -> None:
    """Soon, that is: generators are closed in the loop's next turns."""

    def none() -> bool:
        gc.collect()  # the test client ties its responses into cycles
        return not subscribers()

    await eventually(none)


async def test_from_the_middle_of_a_run_to_its_end(ada: Rest) -> None:
    """The task as it stands, what changes, and nothing after the final event."""
    task_id = await waiting(ada)
    stream = await follow(ada, task_id)
    first = await stream.next()
    assert (first["status"], first["progress"], first["progress_message"]) == (
        "running", 10, "waiting",
    )  # fmt: skip
    shelf.gate.info.context.task.update_progress(60, 'more\n\ndata: "no"')
    second = await stream.next()
    assert (second["progress"], second["progress_message"]) == (60, 'more\n\ndata: "no"')
    shelf.gate.go.set()
    seen = [first, second, *await stream.rest()]
    versions = [(it["seq"], it["step"]) for it in seen]
    assert versions == sorted(set(versions))
    assert [it["status"] for it in seen][-1] == "completed"
    assert seen[-1] == (await ada.get(f"{task_id}/")).json()
    assert subscribers() == 0


async def test_from_before_the_run_to_its_end(ada: Rest, configure: Configure) -> None:
    """Pending first, then everything."""
    configure(max_concurrency=1)
    await waiting(ada)  # it takes the place, until the stream has shown the next one
    handle = await shelf.echo.using(owner=ada.user).aenqueue()
    stream = await follow(ada, str(handle.id))
    assert (await stream.next())["status"] == "pending"
    shelf.gate.go.set()
    assert (await stream.rest())[-1]["status"] == "completed"
    assert [it["status"] for it in await (await follow(ada, str(handle.id))).rest()] == [
        "completed"
    ]


async def test_the_same_bytes_as_a_read(ada: Rest) -> None:
    """`data` is the JSON of the task, on one line."""
    task_id = await finished(shelf.echo, ada, value="é\n\r")
    response = await ada.get(f"{task_id}/events/")
    [event] = [chunk async for chunk in response.streaming_content]
    task = (await ada.get(f"{task_id}/")).content
    version = json.loads(task)
    assert event == (
        f"event: task\nid: {version['seq']}.{version['step']}\ndata: ".encode() + task + b"\n\n"
    )


async def test_headers_keep_others_from_holding_events_back(settings: Any, ada: Rest) -> None:
    """Neither caches nor proxies, nor Django's GZipMiddleware."""
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    client = AsyncClient()
    task_id = await finished(shelf.echo, value="x" * 1000)
    response = await client.get(f"{ROOT}{task_id}/events/", headers={"accept-encoding": "gzip"})
    assert response.headers["Content-Type"] == "text/event-stream"
    assert "no-store" in response.headers["Cache-Control"]
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Content-Encoding"] == "identity"
    [event] = [chunk async for chunk in response.streaming_content]
    assert decoded(event)["id"] == task_id
    read = await client.get(f"{ROOT}{task_id}/", headers={"accept-encoding": "gzip"})
    assert read.headers["Content-Encoding"] == "gzip"


async def test_a_client_that_comes_back_gets_what_is_newer(ada: Rest) -> None:
    """Nothing that it has seen; but for the final event, which it must not miss."""
    task_id = await waiting(ada)
    first = await (await follow(ada, task_id)).next()
    seen = f"{first['seq']}.{first['step']}"
    stream = await follow(ada, task_id, seen)
    following = asyncio.ensure_future(stream.next())
    shelf.gate.info.context.task.update_progress(60)
    assert (await following)["progress"] == 60  # the first that it gets
    assert (await (await follow(ada, task_id, seen)).next())["progress"] == 60
    shelf.gate.go.set()
    last = (await stream.rest())[-1]
    for version in (seen, f"{last['seq']}.{last['step']}", "999999.0"):
        again = await (await follow(ada, task_id, version)).rest()
        assert [it["status"] for it in again] == ["completed"]


@pytest.mark.parametrize(
    "last", ["", "x", "1", "1.", "-1.5", "1.2.3", "\xb9.\xb2", "9" * 5000, "1e3.0", "null", "0.0"]
)
async def test_a_last_event_id_that_is_none_is_overlooked(ada: Rest, last: str) -> None:
    """Everything is sent, as to a client that comes for the first time."""
    task_id = await waiting(ada)
    headers = {"last-event-id": last}
    stream = Stream(await ada.get(f"{task_id}/events/", headers=headers))
    assert (await stream.next())["status"] == "running"


async def test_silence_is_broken_by_comments(ada: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that proxies do not close the stream; no change is lost to them."""
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.02)
    task_id = await waiting(ada)
    stream = await follow(ada, task_id)
    assert (await stream.next())["status"] == "running"
    assert [await stream.next() for _ in range(3)] == [{}, {}, {}]
    shelf.gate.info.context.task.update_progress(60)
    while not (event := await stream.next()):
        pass
    assert event["progress"] == 60
    shelf.gate.go.set()
    statuses = [it["status"] for it in await stream.rest() if it]
    assert statuses[-1] == "completed"


async def test_a_drain_ends_the_stream_and_not_the_task(ada: Rest) -> None:
    """No final event: the client comes back. One that comes meanwhile gets 503 with Retry-After."""
    task_id = await waiting(ada)
    stream = await follow(ada, task_id)
    await stream.next()
    host.bus().close_mailboxes()
    assert await stream.rest() == []
    assert subscribers() == 0


async def test_a_stream_that_comes_during_a_drain_is_a_503(
    ada: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold up the end of the process; with the time to come back after."""
    task_id = await waiting(ada)
    monkeypatch.setattr(server, "is_going_away", lambda: True)
    response = await ada.get(f"{task_id}/events/")
    assert (response.status_code, code_of(response)) == (503, "BACKEND_UNAVAILABLE")
    assert int(response.headers["Retry-After"]) >= 1


async def test_a_stream_without_a_reader_is_closed(ada: Rest) -> None:
    """The watch begins with the response and ends with it, read or not."""
    task_id = await waiting(ada)
    response = await ada.get(f"{task_id}/events/")
    assert subscribers() == 1
    del response
    await none_is_subscribed()


async def open_stream(task_id: str) -> ApplicationCommunicator:
    """A stream over ASGI itself, as a server opens it."""
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "query_string": b"",
        "path": f"{ROOT}{task_id}/events/", "headers": [(b"host", b"testserver")],
    }  # fmt: skip
    stream = ApplicationCommunicator(get_asgi_application(), scope)
    await stream.send_input({"type": "http.request", "body": b"", "more_body": False})
    return stream


@pytest.mark.parametrize("turns", [0, 1, 2, 4, 8, 16, 32, 64, None])
async def test_a_client_that_leaves_ends_its_watch(
    world: None, turns: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever that is: before the answer, in the middle of it, or among the events."""
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.05)
    task_id = await waiting()
    stream = await open_stream(task_id)
    if turns is None:
        start = await stream.receive_output(TIMEOUT)
        assert start["status"] == 200
        assert decoded((await stream.receive_output(TIMEOUT))["body"])["id"] == task_id
        assert decoded((await stream.receive_output(TIMEOUT))["body"]) == {}
        assert subscribers() == 1
    else:
        for _ in range(turns):
            await asyncio.sleep(0)
    await stream.send_input({"type": "http.disconnect"})
    await stream.wait(TIMEOUT)
    await none_is_subscribed()
    shelf.gate.go.set()
    await end_of(task_id)


async def snapshots_then_an_accident() -> AsyncIterator[Any]:
    yield await service.aget(SYSTEM, await start(shelf.echo))
    raise RuntimeError("secret: the password is hunter2")


async def test_an_accident_in_the_middle_cuts_the_stream(
    ada: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no status any more; the server closes the connection, and sends nothing."""
    monkeypatch.setattr(service, "watch", lambda *args: snapshots_then_an_accident())
    response = await ada.get(f"{await start(shelf.echo, ada)}/events/")
    async with aclosing(response.streaming_content) as chunks:
        assert decoded(await anext(chunks))["name"] == "rest.echo"
        with pytest.raises(RuntimeError, match="hunter2"):
            await anext(chunks)
