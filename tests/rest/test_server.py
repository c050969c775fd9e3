"""REST on a real uvicorn: sessions, streams, clients that leave and come back, SIGTERM."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection

from rail_async_tasks.models import TaskExecution
from tests.rest.conftest import MISSING, ROOT, code_of
from tests.rest.spec import check_task, conform
from tests.support.client import FINAL, Client
from tests.support.places import Place, mostly_on_postgres
from tests.support.server import Server, running_server
from tests.support.waiting import TIMEOUT, eventually

pytestmark = mostly_on_postgres

TOKEN = "t" * 32
DRAIN_SECONDS = 1
# uvicorn ends what it has to end, then raises the signal that it was sent once more.
GRACEFUL = (0, -signal.SIGTERM)


@pytest.fixture(scope="module")
def server_loop(place: Place) -> str:
    """Each database with another loop."""
    return {"sqlite": "asyncio", "postgres": "uvloop"}[place.kind]


@pytest.fixture(scope="module")
def server(place: Place, server_loop: str) -> Iterator[Server]:
    with running_server(place.env, loop=server_loop, drain_seconds=DRAIN_SECONDS) as it:
        yield it


class Person(Client):
    """A user with a session; starts tasks over GraphQL, and does all else over REST."""

    def __init__(self, server: Server, cookie: str) -> None:
        super().__init__(server, f"{cookie}; csrftoken={TOKEN}")
        self.root = f"http://127.0.0.1:{server.port}{ROOT}"

    async def send(self, method: str, path: str = "", *, token: str = TOKEN) -> httpx.Response:
        headers = {"x-csrftoken": token} if method == "POST" and token else {}
        response = await self.http.request(method, self.root + path, headers=headers)
        conform(method, ROOT + path, response)
        return response

    async def follow(self, task_id: str, last: str = "") -> AsyncIterator[dict[str, Any]]:
        """A task's events over SSE, to the end of the stream."""
        headers = {"last-event-id": last} if last else {}
        async with self.http.stream(
            "GET", f"{self.root}{task_id}/events/", headers=headers
        ) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream"
            identifier = ""
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    identifier = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    task = json.loads(line.removeprefix("data: "))
                    assert identifier == event_id(task)
                    check_task(task)
                    yield task


def event_id(task: dict[str, Any]) -> str:
    return f"{task['seq']}.{task['step']}"


def versions(tasks: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(task["seq"], task["step"]) for task in tasks]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def person(server: Server, cookie: str, stack: AsyncExitStack) -> Person:
    made = Person(server, cookie)
    stack.push_async_callback(made.http.aclose)
    return made


@pytest.fixture
def ada(server: Server, place: Place, stack: AsyncExitStack) -> Person:
    return person(server, place.cookies["ada"], stack)


@pytest.fixture
def bob(server: Server, place: Place, stack: AsyncExitStack) -> Person:
    return person(server, place.cookies["bob"], stack)


async def test_from_a_start_to_a_result(ada: Person, tmp_path: Path) -> None:
    """The events, the read and the row say the same; one that joins later sees the end only."""
    task_id = await ada.start(f'climb(steps: 4, pause: 0, label: "é\\n", seen: "{tmp_path}")')
    seen = await ada.confirmed(ada.follow(task_id), tmp_path)
    assert versions(seen) == sorted(set(versions(seen)))
    assert [task["status"] for task in seen if task["status"] in FINAL] == ["completed"]
    assert {"step 1", "step 2", "step 3", "step 4"} <= {task["progress_message"] for task in seen}
    assert seen[-1]["result"] == {"steps": 4, "label": "é\n"}
    assert (await ada.send("GET", f"{task_id}/")).json() == seen[-1]
    row = await TaskExecution.objects.aget(id=task_id)
    assert (row.status, row.seq, row.step) == ("completed", *versions(seen)[-1])
    assert await ada.everything(ada.follow(task_id)) == seen[-1:]
    assert await ada.everything(ada.follow(task_id, event_id(seen[-1]))) == seen[-1:]


async def test_a_stream_that_breaks_is_taken_up_where_it_was(ada: Person, tmp_path: Path) -> None:
    """By `Last-Event-ID`, as a browser sends it: versions grow on, and the end is there."""
    task_id = await ada.start(f'climb(steps: 12, pause: 0, seen: "{tmp_path}")')
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["status"] not in FINAL:
        last = event_id(seen[-1]) if seen else ""
        async with asyncio.timeout(TIMEOUT), aclosing(ada.follow(task_id, last)) as events:
            count = 0
            async for task in events:
                seen.append(task)
                if task["progress_message"]:
                    (tmp_path / task["progress_message"]).touch()  # lets the next step begin
                count += 1
                if count == 3:
                    break
    assert versions(seen) == sorted(set(versions(seen)))
    assert len(seen) > 6
    assert seen[-1]["status"] == "completed"


async def test_a_session_with_its_csrf_token(ada: Person, bob: Person) -> None:
    """Cancel and retry by cookie: with the right token only, and only for own tasks."""
    task_id = await ada.start("linger")
    await ada.until(task_id, "running")
    for token in ("", "x" * 32):
        response = await ada.send("POST", f"{task_id}/cancel/", token=token)
        assert (response.status_code, code_of(response)) == (403, "CSRF_FAILED")
    answers = [await bob.send("POST", f"{it}/cancel/") for it in (task_id, MISSING, "no-id")]
    assert len({answer.content for answer in answers}) == 1
    assert code_of(answers[0]) == "NOT_FOUND"
    assert (await ada.send("GET", f"{task_id}/")).json()["cancel_requested"] is False
    response = await ada.send("POST", f"{task_id}/cancel")  # without its last slash
    assert (response.status_code, response.json()["cancel_requested"]) == (200, True)
    assert (await ada.everything(ada.follow(task_id)))[-1]["status"] == "cancelled"
    response = await ada.send("POST", f"{task_id}/retry/")
    again = response.json()["id"]
    assert (response.status_code, response.json()["parent_id"]) == (201, task_id)
    assert (await ada.send("GET", "?limit=1")).json()["results"][0]["id"] == again
    await ada.send("POST", f"{again}/cancel/")
    assert (await ada.everything(ada.follow(again)))[-1]["status"] == "cancelled"


async def test_a_reader_that_leaves_does_not_hurt_the_task(ada: Person) -> None:
    """Many of them, in the middle of its run."""
    task_id = await ada.start("climb(steps: 6, pause: 0.1)")
    for _ in range(10):
        async with aclosing(ada.follow(task_id)) as events:
            await anext(events)
    last = (await ada.everything(ada.follow(task_id)))[-1]
    assert (last["status"], last["attempts"]) == ("completed", 1)


@pytest.mark.parametrize("edge", ["rest", "graphql"])
async def test_open_streams_hold_no_database_connection(
    edge: str,
    ada: Person,
    server: Server,
    place: Place,
    stack: AsyncExitStack,
) -> None:
    """Twenty that wait need no more of them than none."""
    task_id = await ada.start("linger")
    await ada.until(task_id, "running")
    before = await asyncio.to_thread(connected, place, server)
    assert before > 0
    for _ in range(20):
        stream = ada.follow(task_id) if edge == "rest" else ada.by_sse(task_id)
        events = await stack.enter_async_context(aclosing(stream))
        await anext(events)

    async def few() -> bool:
        return await asyncio.to_thread(connected, place, server) < before + 5

    await eventually(few)  # those of the requests close soon after their first event
    await ada.send("POST", f"{task_id}/cancel/")


def connected(place: Place, server: Server) -> int:
    """How many connections to the database there are."""
    if place.kind == "sqlite":
        held = [it.readlink() for it in Path(f"/proc/{server.pid}/fd").iterdir() if it.is_symlink()]
        return sum(path.name == "db.sqlite3" for path in held)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        count: int = cursor.fetchone()[0]
    connection.close()
    return count


async def to_the_end(events: AsyncIterator[dict[str, Any]]) -> list[str]:
    """The statuses that a stream still sends; it may be cut off, too."""
    statuses = []
    with suppress(httpx.RemoteProtocolError):
        async with asyncio.timeout(TIMEOUT):
            async for task in events:
                statuses.append(task["status"])
    return statuses


async def test_sigterm_ends_streams_in_time_and_without_a_final_event(
    place: Place,
    server_loop: str,
    stack: AsyncExitStack,
) -> None:
    """The client comes back, to the next server, with the id of what it has seen last."""
    with running_server(place.env, loop=server_loop, drain_seconds=DRAIN_SECONDS) as server:
        ada = person(server, place.cookies["ada"], stack)
        task_id = await ada.start("survive")
        await ada.until(task_id, "running")
        streams = [await stack.enter_async_context(aclosing(ada.follow(task_id))) for _ in range(5)]
        [*_, last] = [await anext(stream) for stream in streams]
        ends = asyncio.gather(*map(to_the_end, streams))
        server.terminate()
        exit_code = await asyncio.to_thread(server.wait, TIMEOUT)  # its body never ends
        assert exit_code in GRACEFUL
        assert "ERROR" not in server.said()
        sent = {status for statuses in await ends for status in statuses}
        assert sent.isdisjoint(FINAL)
    with running_server(place.env, loop=server_loop, drain_seconds=DRAIN_SECONDS) as server:
        ada = person(server, place.cookies["ada"], stack)
        seen = await ada.everything(ada.follow(task_id, event_id(last)))
        assert versions([last, *seen]) == sorted(set(versions([last, *seen])))
        assert (seen[-1]["status"], seen[-1]["result"]) == ("completed", 2)
