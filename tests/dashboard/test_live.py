"""The stream that keeps a page live: what it sends, and when it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient

from rail_async_tasks.dashboard import live
from rail_async_tasks.dashboard.changes import Watched
from rail_async_tasks.dashboard.live import changes, event_of
from rail_async_tasks.dashboard.query import Query
from rail_async_tasks.hosting import process, server
from rail_async_tasks.ledger.rows import snapshot_of
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.waiting import TIMEOUT, eventually

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

Row = Callable[..., TaskExecution]
STREAM = {"Accept": "text/event-stream"}


class Stream:
    """The events of a response."""

    def __init__(self, response: Any) -> None:
        assert response.status_code == 200, response.content
        assert response["Content-Type"] == "text/event-stream"
        self.chunks = response.streaming_content

    async def until(self, name: str, part: str = "") -> str:
        """Returns the data of the next event of this name that has this part."""
        async with asyncio.timeout(TIMEOUT):
            async for chunk in self.chunks:
                head, *lines = chunk.decode().rstrip("\n").split("\n")
                data = "\n".join(it.removeprefix("data: ") for it in lines)
                if head == f"event: {name}" and part in data:
                    return data
        raise AssertionError(f"The stream has ended before {name} {part}.")

    async def end(self) -> None:
        async with asyncio.timeout(TIMEOUT):
            async for _ in self.chunks:
                pass


@pytest.fixture
async def admin(database: object) -> AsyncIterator[AsyncClient]:
    """A superuser's client; no stream is left when the test ends."""
    client = AsyncClient()
    client.user = await User.objects.acreate(username="root", is_superuser=True)  # type: ignore[attr-defined]
    await client.aforce_login(client.user)  # type: ignore[attr-defined]
    yield client
    await process.astop()


@pytest.fixture
def stored(row: Row) -> Callable[..., Any]:
    """`row` from a coroutine."""
    return sync_to_async(row)


async def opened(client: AsyncClient, *tasks: TaskExecution, **query: str) -> Stream:
    url = "/tasks/live?ids=" + ",".join(str(it.id) for it in tasks)
    url += "".join(f"&{key}={value}" for key, value in query.items())
    return Stream(await client.get(url, headers=STREAM))


def newer(task: TaskExecution, **changes: Any) -> TaskSnapshot:
    return msgspec.structs.replace(snapshot_of(task), **changes)


async def test_rows_progress_and_states(admin: AsyncClient, stored: Any) -> None:
    """A row as it stands; then progress as numbers, and a new state as a new row."""
    task = await stored("running", progress=5)
    stream = await opened(admin, task)
    first = await stream.until("html", f'id="task-{task.id}"')
    assert 'aria-valuenow="5"' in first
    assert 'hx-swap-oob="outerMorph"' in first
    await stream.until("tick")
    process.bus().publish(newer(task, step=1, progress=40, progress_message="<b>\u2028half"))
    moved = json.loads(await stream.until("progress"))
    assert moved == [[str(task.id), 40, "<b>\u2028half"]]
    process.bus().publish(newer(task, seq=2, status="failed", error="<i>broken"))
    last = await stream.until("html", "task-")
    assert 'data-status="failed"' in last
    assert "&lt;i&gt;broken" in last
    await stream.chunks.aclose()


async def test_counters_and_new_tasks(
    admin: AsyncClient, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every few seconds; new tasks that fit the filter are counted, and sent as no row."""
    monkeypatch.setattr(live, "TICK_SECONDS", 0.05)
    monkeypatch.setattr("rail_async_tasks.dashboard.counters.FRESH_SECONDS", 0.0)
    task = await stored("pending", age=10)
    stream = await opened(admin, task, q="state:failed", newest=str(task.id))
    await stream.until("html", "counters")
    await stored("pending")
    new = await stored("failed")
    news = await stream.until("html", "1 new task ")
    assert 'href="?q=state%3Afailed"' in news
    assert str(new.id) not in news
    await stream.chunks.aclose()


async def test_it_ends_with_the_process(admin: AsyncClient, stored: Any) -> None:
    """A page that shows no task is no exception: the server must not wait for it."""
    for tasks in ([], [await stored("running")]):
        stream = await opened(admin, *tasks)
        await stream.until("tick")
        process.bus().close_mailboxes()
        await stream.end()
    await eventually(lambda: process.bus().watched() == [])


async def test_a_row_that_is_deleted_ends_no_stream(admin: AsyncClient, stored: Any) -> None:
    """The other rows of the page stay live."""
    gone, task = await stored("running"), await stored("running")
    stream = await opened(admin, gone, task)
    await stream.until("tick")
    process.bus().end(gone.id)
    for step in (1, 2):
        process.bus().publish(newer(task, step=step, progress=40 + step))
        await stream.until("progress", f"{40 + step}")
    await stream.until("tick")
    await stream.chunks.aclose()


async def test_it_ends_with_the_right(admin: AsyncClient, stored: Any) -> None:
    """One event says why; the page does not ask again."""
    stream = await opened(admin, await stored("running"))
    await stream.until("tick")
    admin.user.is_superuser = False  # type: ignore[attr-defined]
    await admin.user.asave()  # type: ignore[attr-defined]
    assert "may not see all tasks" in await stream.until("lost")
    await stream.end()


async def test_a_limit_of_streams(admin: AsyncClient, settings: Any) -> None:
    """One more than allowed is refused in words; the page then polls."""
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"limits": {"streams_per_user": 1}}}
    stream = await opened(admin)
    await stream.until("tick")
    refused = await admin.get("/tasks/live", headers=STREAM)
    assert refused.status_code == 429
    assert "streams_per_user" in refused.content.decode()
    await stream.chunks.aclose()
    del stream


async def test_no_new_stream_in_a_drain(
    admin: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold up the end of the process."""
    monkeypatch.setattr(server, "is_going_away", lambda: True)
    assert (await admin.get("/tasks/live", headers=STREAM)).status_code == 503


async def test_polling_gets_the_same_at_once(admin: AsyncClient, stored: Any) -> None:
    """Counters, news and rows in one answer that ends."""
    task = await stored("running", progress=7)
    await stored("running")
    answer = await admin.get(f"/tasks/live?ids={task.id}&q=&newest={task.id}")
    text = answer.content.decode()
    assert 'id="counters"' in text
    assert "1 new task " in text
    assert text.count("<li ") == 1
    assert 'aria-valuenow="7"' in text


def test_wsgi_answers_at_once(database: object, client: Any, row: Row) -> None:
    """A stream would occupy one of few workers."""
    task = row("running")
    client.force_login(User.objects.create(username="root", is_superuser=True))
    answer = client.get(f"/tasks/live?ids={task.id}", headers=STREAM)
    assert not answer.streaming
    assert f"task-{task.id}" in answer.content.decode()


async def test_wrong_ids_are_ignored(admin: AsyncClient) -> None:
    """And so is a wrong filter, whose page has said so."""
    answer = await admin.get("/tasks/live?ids=x,,1&q=stat:failed&newest=y")
    assert answer.status_code == 200


def test_what_a_row_has_shown_is_not_sent_again(database: object, row: Row) -> None:
    """Older versions come from another process, late; a cancel that was asked for has none."""
    task = snapshot_of(row("running", progress=5))
    watched = Watched(
        "default",
        (task.id,),
        Query(),
        "",
        None,
        {"namespace": "rail_async_tasks:rail_async_tasks_dashboard", "may_change": True},
    )
    seen: dict[UUID, tuple[int, int]] = {}

    def kinds(**fields: Any) -> list[str]:
        found = changes(watched, seen, [msgspec.structs.replace(task, **fields)])
        return [it.decode().partition("\n")[0].removeprefix("event: ") for it in found]

    assert kinds() == ["html"]
    assert kinds(step=2) == ["progress"]
    assert kinds(step=1) == []
    assert kinds(step=2, cancel_requested=True) == ["html"]
    assert kinds(seq=2) == ["html"]
    assert kinds(step=9) == []


def test_lines_of_an_event(database: object) -> None:
    """Every end of a line that the protocol knows begins a field; others stay in the text."""
    assert event_of("html", "a\r\nb\rc\u2028d") == (
        b"event: html\ndata: a\ndata: b\ndata: c\xe2\x80\xa8d\n\n"
    )
