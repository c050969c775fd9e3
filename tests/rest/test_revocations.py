"""Attack: a caller who has lost the right goes on reading, or acting on an open socket.

Each cause of a loss, over a WebSocket, GraphQL's events and REST's events: the stream ends with a
reason, nothing is delivered after, and the socket accepts no operation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session

from devservers.process import ROOT
from rail_async_tasks.auth import rights, watch
from rail_async_tasks.models import TaskExecution
from tests.rest import shelf
from tests.rest.conftest import Configure, Rest, end_of, logged_in, waiting
from tests.rest.former import CAUSES
from tests.rest.opened import (
    FOLLOW,
    RIGHT,
    Opened,
    frames,
    is_end,
    session_of,
    staff,
    stream,
    texts,
)
from tests.support.databases import Database
from tests.support.sockets import Socket
from tests.support.tokens import SECRET, good
from tests.support.waiting import eventually

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

JWT = {"key": SECRET, "algorithms": ["HS256"], "audience": "tasks", "leeway": 0}

Cause = Callable[[Rest], Awaitable[Any]]


async def deactivated(rest: Rest) -> None:
    rest.user.is_active = False  # type: ignore[union-attr]
    await rest.user.asave()  # type: ignore[union-attr]


async def deleted(rest: Rest) -> None:
    await rest.user.adelete()  # type: ignore[union-attr]


async def password_changed(rest: Rest) -> None:
    rest.user.set_password("another one")  # type: ignore[union-attr]
    await rest.user.asave()  # type: ignore[union-attr]


async def logged_out(rest: Rest) -> None:
    await rest.client.alogout()


async def right_withdrawn(rest: Rest) -> None:
    await rest.user.user_permissions.aclear()  # type: ignore[union-attr]


async def left_the_group(rest: Rest) -> None:
    await rest.user.groups.aclear()  # type: ignore[union-attr]


async def group_lost_the_right(rest: Rest) -> None:
    await (await Group.objects.aget()).permissions.aclear()


async def no_longer_superuser(rest: Rest) -> None:
    rest.user.is_superuser = False  # type: ignore[union-attr]
    await rest.user.asave()  # type: ignore[union-attr]


async def no_longer_staff(rest: Rest) -> None:
    rest.user.is_staff = False  # type: ignore[union-attr]
    await rest.user.asave()  # type: ignore[union-attr]


AT_ONCE = [
    (deactivated, 4401),
    (deleted, 4401),
    (password_changed, 4401),
    (logged_out, 4401),
    (right_withdrawn, 4403),
    (left_the_group, 4403),
    (group_lost_the_right, 4403),
    (no_longer_staff, 4403),
    (no_longer_superuser, 4403),
]


# What no signal announces, as another process or a query does it.
async def deactivated_by_query(rest: Rest) -> None:
    await User.objects.filter(pk=rest.user.pk).aupdate(is_active=False)  # type: ignore[union-attr]


async def session_deleted(rest: Rest) -> None:
    await Session.objects.all().adelete()


LATER = [(deactivated_by_query, 4401), (session_deleted, 4401)]


@pytest.mark.covering("transport", "cause")
@pytest.mark.parametrize("transport", ["socket", "sse", "rest"])
@pytest.mark.parametrize(("cause", "code"), AT_ONCE, ids=[it[0].__name__ for it in AT_ONCE])
async def test_a_stream_ends_at_once_where_this_process_knows(
    ada: Rest, transport: str, cause: Cause, code: int
) -> None:
    """With no periodic check in between. Nothing comes after, and a new request finds no task."""
    task_id = await waiting(ada)
    rest = await staff(cause.__name__)
    async with stream(transport, rest, task_id) as opened:
        await cause(rest)
        assert is_end(transport, await opened.end(), code)
        shelf.gate.go.set()
        await end_of(task_id)
        assert await opened.is_silent()
    assert (await rest.get(f"{task_id}/")).status_code == 404


@pytest.mark.covering("transport", "cause")
@pytest.mark.parametrize("transport", ["socket", "sse", "rest"])
@pytest.mark.parametrize(("cause", "code"), LATER, ids=[it[0].__name__ for it in LATER])
async def test_a_stream_ends_by_the_periodic_check(
    ada: Rest, monkeypatch: pytest.MonkeyPatch, transport: str, cause: Cause, code: int
) -> None:
    """What another process has changed, this one asks for."""
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.05)
    task_id = await waiting(ada)
    async with stream(transport, ada, task_id) as opened:
        await cause(ada)
        assert is_end(transport, await opened.end(), code)


async def test_the_periodic_check_is_at_most_30_seconds_apart(database: object) -> None:
    """With time for the query."""
    assert watch.CHECK_SECONDS <= 20


async def test_one_query_serves_all_open_streams(
    ada: Rest, bob: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any number of readers and streams."""
    rounds: list[int] = []
    read = watch.standings

    def counted(claims: Any) -> Any:
        rounds.append(len(claims))
        return read(claims)

    monkeypatch.setattr(watch, "standings", counted)
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.05)
    task_id = await waiting()  # everyone may read it
    async with (
        stream("rest", ada, task_id),
        stream("sse", bob, task_id),
        stream("socket", ada, task_id),
    ):
        rounds.clear()
        await eventually(lambda: 3 in rounds)


async def test_an_owner_whose_rights_grow_or_stay_reads_on(
    ada: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login elsewhere, a new right, a save of the user: nothing is lost."""
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.05)
    task_id = await waiting(ada)
    assert ada.user is not None
    async with stream("rest", ada, task_id) as opened:
        right = await Permission.objects.aget(codename=RIGHT)
        await ada.user.user_permissions.aadd(right)
        await ada.user.asave()
        shelf.gate.go.set()
        assert '"completed"' in await opened.end()


@pytest.mark.parametrize("transport", ["socket", "sse", "rest"])
async def test_a_token_ends_at_its_own_time(
    ada: Rest, configure: Configure, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """The stream it opened with it."""
    hour, later = 3600.0, 0.0
    monkeypatch.setattr(rights, "time", SimpleNamespace(time=lambda: time.time() + later))
    monkeypatch.setattr(rights, "_LONGEST_TIMER", 0.05)  # so often the time is looked at
    configure(jwt=JWT)
    assert ada.user is not None
    task_id = await waiting(ada)
    token = good(str(ada.user.pk), exp=time.time() + hour)
    headers = {"authorization": f"Bearer {token}"}
    if transport == "socket":
        socket = Socket()
        await socket.ready({"authorization": f"Bearer {token}"})
        await socket.subscribe(FOLLOW, id=task_id)
        opened = Opened(frames(socket))
    elif transport == "sse":
        body = json.dumps({"query": FOLLOW, "variables": {"id": task_id}})
        response = await ada.client.post(
            "/graphql/", data=body, content_type="application/json",
            headers={"accept": "text/event-stream", **headers},
        )  # fmt: skip
        opened = Opened(texts(response.streaming_content))
    else:
        response = await ada.get(f"{task_id}/events/", headers=headers)
        opened = Opened(texts(response.streaming_content))
    assert "running" in await anext(opened.items)
    later = hour
    assert is_end(transport, await opened.end(), 4401)
    if transport == "socket":
        await socket.leave()


OPERATIONS = [
    "mutation($id: ID!) { cancelTask(id: $id) { id } }",
    "mutation($id: ID!) { retryTask(id: $id) { taskId } }",
    "query($id: ID!) { task(id: $id) { id } }",
]


@pytest.fixture(scope="module")
def others() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The other process, by the URL of its database: each start would take a second of CPU."""
    started: dict[str, subprocess.Popen[str]] = {}
    yield started
    for process in started.values():
        with process:
            process.stdin.close()  # type: ignore[union-attr]


@pytest.fixture
def elsewhere(
    database: Database, others: dict[str, subprocess.Popen[str]]
) -> Callable[..., Awaitable[None]]:
    """Withdraws a right in another process, of which no signal comes here."""

    def run(cause: str, rest: Rest) -> None:
        process = others.get(database.url)
        if process is None:
            env = {"DJANGO_SETTINGS_MODULE": "tests.settings", **database.env}
            process = others[database.url] = subprocess.Popen(
                [sys.executable, "-m", "tests.rest.former"],
                cwd=ROOT, env={**os.environ, **env}, text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        print(cause, rest.user.pk, session_of(rest), file=process.stdin)  # type: ignore[union-attr]
        assert process.stdout.readline() == "done\n"  # type: ignore[union-attr]

    return sync_to_async(run, thread_sensitive=False)


@pytest.mark.parametrize("cause", CAUSES)
async def test_what_another_process_withdraws_ends_a_stream(
    ada: Rest, monkeypatch: pytest.MonkeyPatch, elsewhere: Any, cause: str
) -> None:
    """By the periodic check, over a WebSocket and as events; and nothing comes after."""
    task_id = await waiting(ada)
    rest = await staff(cause)
    monkeypatch.setattr(watch, "CHECK_SECONDS", 0.05)
    transports = ("socket", "sse") if CAUSES[cause] == 4401 else ("socket", "rest")
    async with (
        stream(transports[0], rest, task_id) as first,
        stream(transports[1], rest, task_id) as second,
    ):
        await elsewhere(cause, rest)
        # A check in the midst of it may find the user there, and the permissions gone.
        codes = {CAUSES[cause], *([4403] if cause == "deleted" else [])}
        for transport, watcher in zip(transports, (first, second), strict=True):
            last = await watcher.end()
            assert any(is_end(transport, last, code) for code in codes), last
        shelf.gate.go.set()
        await end_of(task_id)
        assert await first.is_silent()
        assert await second.is_silent()


@pytest.mark.parametrize("cause", CAUSES)
async def test_what_another_process_withdraws_ends_operations_at_once(
    ada: Rest, monkeypatch: pytest.MonkeyPatch, elsewhere: Any, cause: str
) -> None:
    """An open socket's next operation is refused, with no check in between and no signal heard."""
    monkeypatch.setattr(watch, "CHECK_SECONDS", 3600.0)
    task_id = await waiting(ada)
    rest = await staff(cause)
    assert rest.user is not None
    change = await Permission.objects.aget(codename="change_taskexecution")
    await rest.user.user_permissions.aadd(change)
    async with stream("socket", rest, task_id) as opened:
        await elsewhere(cause, rest)
        assert opened.socket is not None
        await opened.socket.subscribe(OPERATIONS[0], "2", id=task_id)
        assert is_end("socket", await opened.end(), CAUSES[cause])
    row = await TaskExecution.objects.aget()
    assert (row.cancel_requested, row.status) == (False, "running")


@pytest.mark.parametrize("query", OPERATIONS)
async def test_an_open_socket_of_a_former_colleague_does_nothing(ada: Rest, query: str) -> None:
    """Each operation is refused by the state of now, also where no signal was heard."""
    task_id = await waiting(ada)
    socket = Socket(cookie=f"sessionid={ada.client.cookies['sessionid'].value}")
    await socket.ready()
    await deactivated_by_query(ada)
    await socket.subscribe(query, id=task_id)
    assert await socket.closed() == 4401
    assert "signed out" in socket.reason
    row = await TaskExecution.objects.aget()
    assert (row.cancel_requested, row.status) == (False, "running")
    await socket.leave()


async def test_a_socket_acts_with_the_rights_of_now(ada: Rest) -> None:
    """Without the right to change, a colleague's cancel of another's task is refused."""
    task_id = await waiting(ada)
    rest = await logged_in("colleague", is_staff=True)
    assert rest.user is not None
    for name in (RIGHT, "change_taskexecution"):
        await rest.user.user_permissions.aadd(await Permission.objects.aget(codename=name))
    socket = Socket(cookie=f"sessionid={rest.client.cookies['sessionid'].value}")
    await socket.ready()
    await socket.subscribe(OPERATIONS[2], id=task_id)
    assert (await socket.receive())["payload"]["data"]["task"] is not None
    await socket.receive()
    change = await Permission.objects.aget(codename="change_taskexecution")
    await rest.user.user_permissions.aremove(change)
    await socket.subscribe(OPERATIONS[0], "2", id=task_id)
    (error,) = (await socket.receive())["payload"]["errors"]
    assert error["extensions"]["code"] == "NOT_FOUND"
    await socket.leave()
