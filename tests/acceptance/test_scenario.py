"""A task's life as clients see it, over every transport, on real servers."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from rail_async_tasks.models import TaskExecution
from tests.support.client import FINAL, FOLLOW, FOLLOW_MINE, Client, Event, subscribe
from tests.support.places import mostly_on_postgres
from tests.support.waiting import TIMEOUT

pytestmark = mostly_on_postgres

TRANSPORTS = ["socket", "sse", "eventsource"]
MISSING = "01890a5d-ac96-774b-bcce-b302099a8057"


def versions(events: list[Event]) -> list[tuple[int, int]]:
    return [(event["seq"], event["step"]) for event in events]


async def row(task_id: str) -> TaskExecution:
    return await TaskExecution.objects.aget(id=task_id)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_from_a_mutation_to_a_result(ada: Client, transport: str, tmp_path: Path) -> None:
    """It answers at once; the watcher sees progress, then the result that the row has."""
    task_id = await ada.start(f'climb(steps: 4, pause: 0, label: "é\\n", seen: "{tmp_path}")')
    assert (await ada.task(task_id))["status"] in ("pending", "running")
    seen = await ada.confirmed(ada.stream(transport, task_id), tmp_path)
    assert versions(seen) == sorted(set(versions(seen)))
    assert [event["status"] for event in seen if event["status"] in FINAL] == ["completed"]
    messages = [event["progressMessage"] for event in seen if event["status"] == "running"]
    assert {"step 1", "step 2", "step 3", "step 4"} <= set(messages)
    last, stored = seen[-1], await row(task_id)
    assert (last["status"], last["progress"]) == ("completed", 100)
    assert last["result"] == {"steps": 4, "label": "é\n"} == stored.result
    assert (stored.status, stored.progress, stored.seq) == ("completed", 100, last["seq"])
    assert stored.completed_at is not None


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_finished_task_is_one_event(ada: Client, transport: str) -> None:
    """Its final state, then the end of the stream."""
    task_id = await ada.start("climb(steps: 1, pause: 0)")
    await ada.final(task_id)
    seen = await ada.everything(ada.stream(transport, task_id))
    assert [event["status"] for event in seen] == ["completed"]


async def test_cancelling_what_runs(ada: Client) -> None:
    """The body ends, the row is `cancelled`, and a second cancel returns it."""
    task_id = await ada.start("linger")
    await ada.until(task_id, "running")
    cancel = "mutation($id: ID!) { cancelTask(id: $id) { status cancelRequested } }"
    answer = (await ada.ask(cancel, id=task_id))["cancelTask"]
    assert answer == {"status": "running", "cancelRequested": True}
    last = await ada.final(task_id)
    assert (last["status"], last["errorCode"], last["error"]) == ("cancelled", "cancelled", None)
    assert await ada.error_code(cancel, id=task_id) == "ALREADY_FINAL"
    assert (await row(task_id)).status == "cancelled"


async def test_a_flaky_task_succeeds_in_its_third_attempt(ada: Client) -> None:
    """Two retries; each watcher sees both."""
    task_id = await ada.start("flaky")
    seen = await ada.everything(ada.by_socket(task_id))
    last = seen[-1]
    assert (last["status"], last["result"]) == ("completed", 3)
    assert (last["attempts"], last["retryCount"], last["error"]) == (3, 2, None)
    assert versions(seen) == sorted(set(versions(seen)))


async def test_a_task_that_fails_says_why(ada: Client) -> None:
    """`error` is the exception's text, without its traceback."""
    last = await ada.final(await ada.start("fall"))
    assert (last["status"], last["errorCode"]) == ("failed", "exception")
    assert (last["error"], last["result"]) == ("the data makes no sense", None)


async def test_a_def_task_uses_the_orm(ada: Client) -> None:
    """In its thread, as its owner."""
    prefix = f"group {time.monotonic_ns()} "
    last = await ada.final(await ada.start(f'makeGroups(prefix: "{prefix}", count: 5)'))
    assert (last["status"], last["result"]) == ("completed", {"found": 5, "user": "ada"})


async def test_the_list_is_the_callers_newest_first(ada: Client, bob: Client) -> None:
    """Filtered, paged, and the caller's own."""
    ids = [await ada.start("climb(steps: 1, pause: 0)") for _ in range(3)]
    theirs = await bob.start("climb(steps: 1, pause: 0)")
    for task_id in ids:
        await ada.final(task_id)
    query = "query($after: ID) { tasks(limit: 2, after: $after, status: %s) { id ownerId } }"
    query = query % '"completed"'
    first = (await ada.ask(query))["tasks"]
    assert [task["id"] for task in first] == ids[:0:-1]
    second = (await ada.ask(query, after=ids[1]))["tasks"]
    assert second[0]["id"] == ids[0]
    owners = {task["ownerId"] for task in first + second}
    assert len(owners) == 1
    everything = (await ada.ask("{ tasks(limit: 500) { id } }"))["tasks"]
    assert theirs not in {task["id"] for task in everything}


async def test_running_a_finished_task_again(ada: Client) -> None:
    """A new task with the same arguments, whose parent the old one is."""
    parent = await ada.start('climb(steps: 1, pause: 0, label: "again")')
    await ada.final(parent)
    retry = "mutation($id: ID!) { retryTask(id: $id) { taskId status task { parentId } } }"
    payload = (await ada.ask(retry, id=parent))["retryTask"]
    assert (payload["status"], payload["task"]["parentId"]) == ("pending", parent)
    last = await ada.final(payload["taskId"])
    assert (last["parentId"], last["result"]) == (parent, {"steps": 1, "label": "again"})
    running = await ada.start("linger")
    assert await ada.error_code(retry, id=running) == "NOT_FINAL"
    await ada.ask("mutation($id: ID!) { cancelTask(id: $id) { id } }", id=running)
    await ada.final(running)


@pytest.mark.parametrize("who", ["bob", ""])
async def test_another_users_task_does_not_exist(
    ada: Client, person: Callable[[str], Client], who: str
) -> None:
    """Read, changed or watched: the answer is byte for byte that for an id which names nothing."""
    other = person(who)
    theirs = await ada.start("linger")
    await ada.until(theirs, "running")
    operations = [
        "query($id: ID!) { task(id: $id) { id } }",
        "mutation($id: ID!) { cancelTask(id: $id) { id } }",
        "mutation($id: ID!) { retryTask(id: $id) { taskId } }",
    ]
    for operation in operations:
        answers = [await other.post(operation, id=it) for it in (theirs, MISSING, "no id")]
        assert len({answer.content for answer in answers}) == 1
        assert answers[0].json()["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    streams = [await whole_stream(other, it) for it in (theirs, MISSING, "no id")]
    assert streams[0] == streams[1] == streams[2]
    assert b'"NOT_FOUND"' in streams[0].replace(b" ", b"")
    frames = [await first_frames(other, it) for it in (theirs, MISSING, "no id")]
    assert frames[0] == frames[1] == frames[2]
    assert "NOT_FOUND" in frames[0][0]
    assert (await ada.task(theirs))["status"] == "running"
    await ada.ask("mutation($id: ID!) { cancelTask(id: $id) { id } }", id=theirs)
    await ada.final(theirs)


async def whole_stream(client: Client, task_id: str) -> bytes:
    """All bytes of a task's SSE stream."""
    body = {"query": FOLLOW, "variables": {"id": task_id}}
    headers = {"accept": "text/event-stream"}
    return (await client.http.post(client.server.url, json=body, headers=headers)).content


async def first_frames(client: Client, task_id: str) -> list[str]:
    """Returns the frames of a task's operation, up to its end."""
    said: list[str] = []
    async with client.socket() as ws:
        await subscribe(ws, FOLLOW, {"id": task_id})
        async with asyncio.timeout(TIMEOUT):
            while True:
                said.append(str(await ws.recv()))
                if json.loads(said[-1])["type"] in ("complete", "error"):
                    return said


async def test_my_task_updates_are_mine(ada: Client, bob: Client) -> None:
    """First what is unfinished, then every change of each of the caller's tasks, and no others."""
    before = await ada.start("linger")
    await ada.until(before, "running")
    async with ada.socket() as ws, asyncio.timeout(TIMEOUT):
        await subscribe(ws, FOLLOW_MINE, {})
        first = json.loads(await ws.recv())["payload"]["data"]["myTaskUpdates"]
        assert (first["id"], first["status"]) == (before, "running")
        theirs = await bob.start("climb(steps: 2, pause: 0.05)")
        ids = [await ada.start("climb(steps: 2, pause: 0.05)") for _ in range(3)]
        await bob.final(theirs)
        await ada.ask("mutation($id: ID!) { cancelTask(id: $id) { id } }", id=before)
        seen: list[Event] = []
        while not {it["id"] for it in seen if it["status"] in FINAL} >= {*ids, before}:
            seen.append(json.loads(await ws.recv())["payload"]["data"]["myTaskUpdates"])
    # Another test's task of hers may end meanwhile; but nothing of his is among them.
    assert {event["id"] for event in seen} >= {*ids, before}
    assert theirs not in {event["id"] for event in seen}
    for task_id in ids:
        mine = [event for event in seen if event["id"] == task_id]
        assert versions(mine) == sorted(set(versions(mine)))
        assert mine[-1]["status"] == "completed"


async def test_clients_that_leave_before_the_answer_do_not_hurt_their_tasks(
    ada: Client, server: Any
) -> None:
    """The connection closes at some point after the request: what was created runs to its end."""
    for number in range(12):
        leave_after_sending(
            server.port,
            ada.headers["cookie"],
            f'mutation {{ climb(steps: 2, pause: 0.02, label: "left {number}") {{ taskId }} }}',
            # The last one leaves once it has an answer, so that something has been created.
            seconds=None if number == 11 else number * 0.004,
        )
    # Asked by a client that stays: all that came before it has been taken up by then.
    await ada.final(await ada.start("climb(steps: 1, pause: 0)"))
    rows = TaskExecution.objects.filter(arguments__label__startswith="left ")
    found = [str(it) async for it in rows.values_list("id", flat=True)]
    assert found
    for task_id in found:
        last = await ada.final(task_id)
        assert (last["status"], last["attempts"]) == ("completed", 1)
        await TaskExecution.objects.filter(id=task_id).adelete()


def leave_after_sending(port: int, cookie: str, query: str, *, seconds: float | None) -> None:
    """Sends a request and closes the connection so much later; for None, when it is answered."""
    body = json.dumps({"query": query}).encode()
    head = (
        f"POST /graphql/ HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body)
        if seconds is None:
            assert connection.recv(1)
        else:
            time.sleep(seconds)  # the moment at which it leaves is what varies


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_watcher_that_leaves_does_not_hurt_the_task(ada: Client, transport: str) -> None:
    """It runs on to its result."""
    task_id = await ada.start("climb(steps: 4, pause: 0.05)")
    async with aclosing(ada.stream(transport, task_id)) as events:
        async for _ in events:
            break
    last = await ada.final(task_id)
    assert (last["status"], last["attempts"]) == ("completed", 1)


async def test_http_is_answered_while_a_thread_floods_progress(ada: Client, tmp_path: Path) -> None:
    """100,000 reports and more without a pause in a `def` task leave the loop free."""
    over = tmp_path / "over"
    task_id = await ada.start(f'flood(calls: 100000, until: "{over}")')
    await ada.until(task_id, "running")
    watching = asyncio.ensure_future(ada.everything(ada.by_socket(task_id)))
    times = []
    for _ in range(10):  # all of them meanwhile: the task waits for the end of the last one
        began = time.monotonic()
        await ada.ask("{ __typename }")
        times.append(time.monotonic() - began)
    assert (await ada.task(task_id))["status"] == "running"
    over.touch()
    seen = await watching
    assert (seen[-1]["status"], seen[-1]["result"] >= 100_000) == ("completed", True)
    assert min(times) < 1  # seconds; a slow machine holds up some of them, a loop at work all
