"""One scenario on every server: what tasks do there, and what becomes of them at its end."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.utils import timezone
from websockets.exceptions import InvalidStatus

from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.acceptance.ends import end_of_socket, end_of_stream, handed_back, left_open
from tests.support.client import FINAL, FOLLOW, Client, Event
from tests.support.places import Place
from tests.support.server import ROOT, Server, running_server
from tests.support.server_kinds import KINDS, Kind
from tests.support.waiting import TIMEOUT, eventually, no

# Long enough for a body to end that only waits for a file, also on a busy machine. The bodies that
# are cut off would never end.
DRAIN_SECONDS = 4

CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { status cancelRequested } }"
RETRY = "mutation($id: ID!) { retryTask(id: $id) { taskId status } }"

# Every server in one of its forms, on one database. The rest is among the long tests.
SHORT = {
    ("postgres", "daphne"),
    ("postgres", "gunicorn-preload"),
    ("sqlite", "hypercorn"),
    ("postgres", "granian"),
    ("sqlite", "runserver-daphne"),
    ("sqlite", "gunicorn-wsgi"),
}


def combinations() -> list[Any]:
    return [
        pytest.param(
            database,
            kind,
            marks=[pytest.mark.postgres] * (database == "postgres")
            + [pytest.mark.long] * ((database, kind.name) not in SHORT),
            id=f"{database}-{kind.name}",
        )
        for database in ("sqlite", "postgres")
        for kind in KINDS.values()
    ]


on_every_server = pytest.mark.parametrize(("place", "kind"), combinations(), indirect=["place"])


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def client_of(server: Server, place: Place, stack: AsyncExitStack, name: str = "ada") -> Client:
    client = Client(server, place.cookies[name] if name else "")
    stack.push_async_callback(client.http.aclose)
    return client


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_its_command_is_documented(kind: Kind) -> None:
    """The documented command is the tested one, but for the port and the names of modules."""
    page = (ROOT / "docs" / "servers.md").read_text().replace("root.", "tests.")
    page = page.replace("python manage.py", "django").replace("rail-tasks-daphne", kind.command[1])
    commands = [line.split() for line in re.findall(r"^\| .* \| `(.*)` \|$", page, re.MULTILINE)]
    essential = {
        word
        for word in kind.command
        if "{port}" not in word
        and word not in ("-m", "--port", "--no-access-log", "--no-control-socket")
    }
    assert essential in [set(words) for words in commands]


@on_every_server
async def test_the_scenario(
    place: Place, kind: Kind, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """Tasks wait for the server, run there in every way, survive its end, and go on in the next."""
    waiting, delayed = await waits(), await waits(seconds=3)
    with running_server(place.env, kind=kind, drain_seconds=DRAIN_SECONDS) as server:
        if kind.starts_with_server:  # before any request
            await until_completed(waiting)
            await one_runtime_per_worker(server)
        ada = client_of(server, place, stack)
        await asyncio.gather(
            climbs_in_everybodys_sight(ada),
            ends_when_it_is_cancelled(ada),
            takes_three_attempts(ada),
            fails_and_is_started_anew(ada),
            uses_the_orm_in_a_thread(ada),
            is_started_by_a_plain_view(ada),
            runs_in_the_loop_of_the_server(ada),
        )
        await until_completed(waiting, delayed)
        ids = [await ada.start(call) for call in ("survive", "survive", "surviveInThread")]
        short = await ada.start(f'climb(steps: 1, pause: 0, seen: "{tmp_path}")')
        for task_id in (*ids, short):
            await ada.until(task_id, "running")
        if kind.reloads:
            (tmp_path / "step 1").touch()
            await reloads(server, ada, ids, stack)
        else:
            await stops(server, ada, ids, stack, tmp_path)
            await handed_back(ids)
            assert (await TaskExecution.objects.aget(id=short)).status == "completed"
            assert not await TaskExecution.objects.filter(status="running").aexists()
            # The next one is of any kind: how this one starts is seen above.
            server = stack.enter_context(running_server(place.env, drain_seconds=1))
            ada = client_of(server, place, stack)
        if kind.reloads and not kind.starts_with_server:  # then any request does
            await ada.http.get(server.url.replace("/graphql/", "/tasks/health/live"))
        await until_completed(*ids, short)
        for task_id in ids:
            last = await ada.task(task_id)
            assert (last["result"], last["attempts"], last["retryCount"]) == (2, 2, 0)
    assert not await TaskExecution.objects.filter(crashes__gt=0).aexists()


# --- what waits for the server -------------------------------------------------------------------


async def waits(*, seconds: float = 0) -> str:
    """Creates a row that is due in so many seconds, as if left behind."""
    now = timezone.now()
    row = await TaskExecution.objects.acreate(
        name="acceptance.climb",
        status="pending",
        queue="default",
        arguments={"steps": 1, "pause": 0},
        created_at=now,
        updated_at=now,
        run_after=now + timedelta(seconds=seconds) if seconds else None,
    )
    return str(row.id)


async def until_completed(*ids: str) -> None:
    """The rows say so, without a request to the server."""
    left = TaskExecution.objects.filter(id__in=ids).exclude(status="completed")
    await eventually(lambda: no(left.aexists()), every=0.05)


async def one_runtime_per_worker(server: Server) -> None:
    """And none anywhere else, such as in the process that forks the workers."""
    processes = set(server.workers()) or {server.pid}
    found: list[int] = []

    async def are_enough() -> bool:
        live = [row.place async for row in TaskRuntime.objects.filter(dead=False)]
        found[:] = sorted(int(place.rpartition(" ")[2]) for place in live)
        return len(found) >= server.kind.runtimes

    await eventually(are_enough, lambda: found, every=0.05)
    # Where workers are spawned, Python's own resource tracker is a child of the server too.
    assert processes.issuperset(found)
    assert len(found) == server.kind.runtimes


# --- what tasks do -------------------------------------------------------------------------------


async def climbs_in_everybodys_sight(ada: Client) -> None:
    """The same end over every transport; versions only grow."""
    task_id = await ada.start('climb(steps: 4, pause: 0.15, label: "é")')
    if ada.server.kind.streams:
        ways = [ada.stream(transport, task_id) for transport in ("socket", "sse", "eventsource")]
        for seen in await asyncio.gather(*map(ada.everything, ways)):
            versions = [(event["seq"], event["step"]) for event in seen]
            assert versions == sorted(set(versions))
            assert [it["status"] for it in seen if it["status"] in FINAL] == ["completed"]
            assert seen[-1]["result"] == {"steps": 4, "label": "é"}
    else:
        await has_no_streams(ada, task_id)
    last = await ada.final(task_id)
    assert (last["status"], last["progress"], last["attempts"]) == ("completed", 100, 1)
    assert last["result"] == {"steps": 4, "label": "é"}
    await is_shown_by_rest(ada, last)


async def has_no_streams(ada: Client, task_id: str) -> None:
    """A subscription is refused at once, and says why."""
    body = {"query": FOLLOW, "variables": {"id": task_id}}
    headers = {"accept": "text/event-stream"}
    answer = await ada.http.post(ada.server.url, json=body, headers=headers)
    assert answer.status_code == 501
    assert "ASGI" in answer.json()["errors"][0]["message"]
    with pytest.raises((InvalidStatus, OSError, EOFError)):
        async with ada.socket():
            pass


async def is_shown_by_rest(ada: Client, task: Event) -> None:
    """As GraphQL shows it; its events end, with the final one."""
    place = ada.server.url.replace("/graphql/", f"/api/v1/tasks/{task['id']}/")
    found = (await ada.http.get(place)).json()
    assert [found["status"], found["result"], found["progress_message"], found["seq"]] == [
        task["status"], task["result"], task["progressMessage"], task["seq"]
    ]  # fmt: skip
    events = (await ada.http.get(f"{place}events/")).text
    assert events.count("event: task") == 1
    assert f"id: {task['seq']}.{task['step']}" in events


async def ends_when_it_is_cancelled(ada: Client) -> None:
    """Wherever it runs; a second cancel comes too late."""
    task_id = await ada.start("linger")
    await ada.until(task_id, "running")
    answer = (await ada.ask(CANCEL, id=task_id))["cancelTask"]
    assert answer == {"status": "running", "cancelRequested": True}
    last = await ada.final(task_id)
    assert (last["status"], last["errorCode"]) == ("cancelled", "cancelled")
    assert await ada.error_code(CANCEL, id=task_id) == "ALREADY_FINAL"


async def takes_three_attempts(ada: Client) -> None:
    last = await ada.final(await ada.start("flaky"))
    assert (last["status"], last["result"], last["attempts"]) == ("completed", 3, 3)


async def fails_and_is_started_anew(ada: Client) -> None:
    parent = await ada.start("fall")
    last = await ada.final(parent)
    assert (last["status"], last["errorCode"]) == ("failed", "exception")
    assert last["error"] == "the data makes no sense"
    again = (await ada.ask(RETRY, id=parent))["retryTask"]
    assert again["status"] == "pending"
    last = await ada.final(again["taskId"])
    assert (last["status"], last["parentId"]) == ("failed", parent)


async def uses_the_orm_in_a_thread(ada: Client) -> None:
    prefix = f"group {time.monotonic_ns()} "
    last = await ada.final(await ada.start(f'makeGroups(prefix: "{prefix}", count: 3)'))
    assert (last["status"], last["result"]) == ("completed", {"found": 3, "user": "ada"})


async def is_started_by_a_plain_view(ada: Client) -> None:
    """By `enqueue()`, in a view that is not async."""
    answer = await ada.http.get(ada.server.url.replace("/graphql/", "/plain/climb"))
    assert answer.json()["status"] == "pending"
    last = await ada.final(answer.json()["id"])
    assert (last["status"], last["ownerId"]) == ("completed", None)


async def runs_in_the_loop_of_the_server(ada: Client) -> None:
    last = await ada.final(await ada.start("where"))
    assert last["result"] == ada.server.kind.loop


# --- its end -------------------------------------------------------------------------------------


async def stops(
    server: Server, ada: Client, ids: list[str], stack: AsyncExitStack, seen: Path
) -> None:
    """SIGTERM: it ends, a task that can ends first, and no client hears of an end too many."""
    streams = server.kind.streams
    sockets, lines = await left_open(ada, ids, stack) if streams else ([], [])
    ends = asyncio.gather(*map(end_of_socket, sockets), *map(end_of_stream, lines))
    server.terminate()
    (seen / "step 1").touch()
    exit_code = await asyncio.to_thread(server.wait, TIMEOUT)
    assert exit_code in server.kind.exit_codes
    assert server.alarms() == []
    endings = await ends
    assert [code for code, _ in endings[: len(sockets)]] == [1012] * len(sockets)
    assert [said for _, said in endings[: len(sockets)] if "complete" in said] == []
    assert [said for said in endings[len(sockets) :] if "complete" in said] == []


async def reloads(server: Server, ada: Client, ids: list[str], stack: AsyncExitStack) -> None:
    """A file changes: the server hands back what it runs, at once, and begins anew."""
    ends: list[Any] = []
    if server.kind.streams:
        sockets, lines = await left_open(ada, ids, stack)
        ends = [*map(end_of_socket, sockets), *map(end_of_stream, lines)]
    endings = asyncio.gather(*ends, return_exceptions=True)
    await asyncio.to_thread(server.reload)
    for said in await endings:
        if isinstance(said, BaseException):
            assert isinstance(said, httpx.TransportError)  # cut off in the middle
        else:
            assert "complete" not in (said[1] if isinstance(said, tuple) else said)
