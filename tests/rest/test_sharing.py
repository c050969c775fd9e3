"""Streams of one task: which share an event's text, and that no one reads what is not theirs.

Texts are counted, not timed: how often GraphQL executes, and how often REST renders.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import strawberry
from django.contrib.auth.models import Permission
from strawberry.extensions import SchemaExtension

from rail_async_tasks.graphql import Query, Subscription, TaskGraphQLConsumer, shared
from rail_async_tasks.ids import new_id
from rail_async_tasks.rest import events
from tests.rest import shelf
from tests.rest.conftest import Configure, Rest, start, waiting
from tests.rest.opened import RIGHT, Opened, session_of, staff, stream
from tests.support.sockets import Socket
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

FIELDS = "status progress error errorType traceback"
FOLLOW = f"subscription($id: ID!) {{ taskProgress(taskId: $id) {{ {FIELDS} }} }}"


class Counted:
    """A function that knows how often it was called."""

    def __init__(self, function: Any) -> None:
        self.function, self.count = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return self.function(*args, **kwargs)


@pytest.fixture
def executions(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """The executions whose texts are shared."""
    counted = Counted(shared.execute)
    monkeypatch.setattr(shared, "execute", counted)
    return counted


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as entered:
        yield entered


async def follow(
    stack: AsyncExitStack, rest: Rest, task_id: str, query: str = FOLLOW, id_: str = "1",
    application: Any = None,
) -> Socket:  # fmt: skip
    """A socket that has the task as it stands."""
    cookies = {} if rest.user is None else {"cookie": f"sessionid={session_of(rest)}"}
    socket = Socket(application=application, **cookies)
    await socket.ready()
    stack.push_async_callback(socket.leave)
    await socket.subscribe(query, id_, id=task_id)
    first = await socket.receive()
    assert first["id"] == id_
    assert "running" in json.dumps(first)
    return socket


async def event(socket: Socket) -> Any:
    """The task in the next frame."""
    [task] = (await socket.receive())["payload"]["data"].values()
    return task


def report(percent: int) -> None:
    shelf.gate.info.context.task.update_progress(percent)


async def rest_of(socket: Socket) -> list[Any]:
    """The frames up to `complete`."""
    frames = [await socket.receive()]
    while frames[-1]["type"] == "next":
        frames.append(await socket.receive())
    return frames


# --- what is shared -------------------------------------------------------------------------------


async def test_one_execution_serves_all_sockets(
    ada: Rest, bob: Rest, stack: AsyncExitStack, executions: Counted
) -> None:
    """Of users with equal rights; each frame has the id of its own operation."""
    task_id = await waiting()
    sockets = [
        await follow(stack, rest, task_id, id_=f'"{number}"')
        for number, rest in enumerate([ada, bob, ada, bob])
    ]
    executions.count = 0
    report(50)
    for number, socket in enumerate(sockets):
        frame = await socket.receive()
        assert (frame["id"], frame["type"]) == (f'"{number}"', "next")
        assert frame["payload"]["data"]["taskProgress"]["progress"] == 50
    assert executions.count == 1
    shelf.gate.go.set()
    ends = [await rest_of(socket) for socket in sockets]
    assert executions.count == 2
    assert [end[-1]["type"] for end in ends] == ["complete"] * 4


async def test_one_execution_serves_all_event_streams(
    ada: Rest, bob: Rest, stack: AsyncExitStack, executions: Counted
) -> None:
    """GraphQL over SSE."""
    task_id = await waiting()
    opened = [
        await stack.enter_async_context(stream("sse", rest, task_id)) for rest in (ada, bob, ada)
    ]
    executions.count = 0
    report(50)
    texts = {await asyncio.wait_for(anext(it.items), TIMEOUT) for it in opened}
    assert (len(texts), executions.count) == (1, 1)


async def test_rest_renders_an_event_once(
    ada: Rest, bob: Rest, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For readers with equal rights."""
    rendered = Counted(events.render_event)
    monkeypatch.setattr(events, "render_event", rendered)
    task_id = await waiting()
    opened: list[Opened] = [
        await stack.enter_async_context(stream("rest", rest, task_id)) for rest in (ada, bob, ada)
    ]
    rendered.count = 0
    report(50)
    texts = {await asyncio.wait_for(anext(it.items), TIMEOUT) for it in opened}
    assert (len(texts), rendered.count) == (1, 1)


async def test_my_tasks_are_shared_by_the_sockets_of_a_user(
    ada: Rest, stack: AsyncExitStack, executions: Counted
) -> None:
    """Several pages that one user has open."""
    task_id = await waiting(ada)
    query = "subscription { myTaskUpdates { id status progress } }"
    sockets = [await follow(stack, ada, task_id, query) for _ in range(3)]
    executions.count = 0
    report(50)
    assert [(await event(it))["progress"] for it in sockets] == [50] * 3
    assert executions.count == 1


# --- what is not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("public_errors", ["all", "declared"])
async def test_different_rights_never_share(
    ada: Rest, stack: AsyncExitStack, executions: Counted, configure: Configure, public_errors: str
) -> None:
    """A stranger, a user and a colleague with the right: each reads the error that is for them."""
    configure(public_errors=public_errors)
    task_id = await start(shelf.fall_later)
    await asyncio.wait_for(shelf.gate.started.wait(), TIMEOUT)
    colleague = await staff("right")
    readers = [Rest(), ada, colleague, Rest(), ada, colleague]
    sockets = [await follow(stack, rest, task_id) for rest in readers]
    executions.count = 0
    shelf.gate.go.set()
    ends = [(await rest_of(socket))[-2]["payload"]["data"]["taskProgress"] for socket in sockets]
    assert [it["status"] for it in ends] == ["failed"] * 6
    assert executions.count == 3
    for stranger, user, able in (ends[:3], ends[3:]):
        assert "secret" not in json.dumps(stranger)
        assert ("secret" in user["error"]) is (public_errors == "all")
        assert user["traceback"] is None
        assert able["error"] == "a secret of the data"
        assert "shelf.py" in able["traceback"]


async def test_rest_s_readers_with_different_rights_never_share(
    ada: Rest, anonymous: Rest, stack: AsyncExitStack
) -> None:
    """As over GraphQL."""
    task_id = await start(shelf.fall_later)
    await asyncio.wait_for(shelf.gate.started.wait(), TIMEOUT)
    readers = [anonymous, ada, await staff("right")]
    opened = [await stack.enter_async_context(stream("rest", it, task_id)) for it in readers]
    shelf.gate.go.set()
    stranger, user, able = [await it.end() for it in opened]
    assert "secret" not in stranger
    assert "secret" in user
    assert "shelf.py" not in user
    assert "shelf.py" in able


async def test_a_right_that_is_withdrawn_ends_one_stream(
    ada: Rest, stack: AsyncExitStack, executions: Counted
) -> None:
    """Between two events; the others go on, and share the next."""
    task_id = await waiting(ada)
    able = await staff("right")
    other = Rest(await type(able.user).objects.acreate(username="other", is_staff=True))  # type: ignore[union-attr]
    right = await Permission.objects.aget(codename=RIGHT)
    await other.user.user_permissions.aadd(right)  # type: ignore[union-attr]
    await other.client.aforce_login(other.user)  # type: ignore[arg-type]
    former, stays = [await follow(stack, rest, task_id) for rest in (able, other)]
    executions.count = 0
    report(40)
    assert [(await event(it))["progress"] for it in (former, stays)] == [40, 40]
    assert executions.count == 1
    await able.user.user_permissions.aclear()  # type: ignore[union-attr]
    assert await former.closed() == 4403
    report(60)
    assert (await event(stays))["progress"] == 60
    assert await former.is_silent()


async def test_other_documents_and_variables_are_apart(
    ada: Rest, stack: AsyncExitStack, executions: Counted
) -> None:
    """Each gets what it asks for."""
    task_id = await waiting(ada)
    documents = [
        FOLLOW,
        "subscription($id: ID!) { taskUpdated(taskId: $id) { id status progress } }",
        "subscription($id: ID!) { it: taskProgress(taskId: $id) { status, percent: progress } }",
        FOLLOW.replace("$id: ID!", "$id: ID!, $no: Boolean = true").replace(
            FIELDS, "status progress queue @skip(if: $no)"
        ),
        f'subscription {{ taskProgress(taskId: "{task_id}") {{ status progress queue }} }}',
    ]
    sockets = [await follow(stack, ada, task_id, query) for query in documents]
    executions.count = 0
    report(50)
    assert [sorted(await event(it)) for it in sockets] == [
        sorted(FIELDS.split()), ["id", "progress", "status"], ["percent", "status"],
        ["progress", "status"], ["progress", "queue", "status"],
    ]  # fmt: skip
    assert executions.count == 5


class Curious(SchemaExtension):
    """A project's own: it sees each execution."""

    seen = 0

    def resolve(self, _next: Any, root: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
        if info.field_name == "progress":
            type(self).seen += 1
        return _next(root, info, *args, **kwargs)


class OwnConsumer(TaskGraphQLConsumer):
    """A project's own, which encodes what is sent."""

    def encode_json(self, data: Any) -> str:
        return json.dumps({**data, "by": "us"} if data["type"] == "next" else data)


async def test_nothing_is_shared_where_the_project_takes_part(
    ada: Rest, bob: Rest, stack: AsyncExitStack, executions: Counted
) -> None:
    """An extension sees every subscriber's events; a consumer encodes each frame."""
    task_id = await waiting()
    schema = strawberry.Schema(Query, subscription=Subscription, extensions=[Curious])
    application = TaskGraphQLConsumer.as_asgi(schema=schema)
    sockets = [await follow(stack, it, task_id, application=application) for it in (ada, bob)]
    own = await follow(stack, ada, task_id, application=OwnConsumer.as_asgi())
    before = Curious.seen
    report(50)
    assert [(await event(it))["progress"] for it in sockets] == [50, 50]
    assert Curious.seen == before + 2
    assert (await own.receive())["by"] == "us"
    assert executions.count == 0


# --- how it looks ---------------------------------------------------------------------------------


class Silent(SchemaExtension):
    """Does nothing, so each subscriber is executed by itself."""


ALONE = strawberry.Schema(Query, subscription=Subscription, extensions=[Silent])
TOGETHER = strawberry.Schema(Query, subscription=Subscription)
MISTAKES = [
    (FOLLOW, {"id": str(new_id())}),
    (FOLLOW, {"id": "no id"}),
    (FOLLOW, {"id": None}),
    (FOLLOW, {}),
    (FOLLOW, {"id": {}}),
    (FOLLOW.replace("status", "state"), {"id": "1"}),
    (FOLLOW.replace("$id: ID!", "$id: ID!, $n: Int"), {"id": "1", "n": "x"}),
    ("subscription { myTaskUpdates { id } } query Q { __typename }", {}),
    ("subscription { taskProgress(taskId: 1) { id @own } }", {}),
    ("subscription { __typename }", {}),
]


@pytest.mark.parametrize(("query", "variables"), MISTAKES)
async def test_a_mistake_is_answered_as_ever(
    anonymous: Rest, query: str, variables: dict[str, Any]
) -> None:
    """The same frames, to the byte, as where nothing is shared."""
    answers = []
    for schema in (ALONE, TOGETHER):
        socket = Socket(application=TaskGraphQLConsumer.as_asgi(schema=schema))
        await socket.ready()
        await socket.send(
            {"type": "subscribe", "id": "1", "payload": {"query": query, "variables": variables}}
        )
        answers.append([(await socket.app.receive_output(TIMEOUT))["text"]])
        if '"next"' in answers[-1][0]:
            answers[-1].append((await socket.app.receive_output(TIMEOUT))["text"])
        await socket.leave()
    assert answers[0] == answers[1]


@pytest.mark.parametrize("limits", [{}, {"answer_bytes": 10_000}])
async def test_frames_are_the_same_to_the_byte(
    anonymous: Rest, stack: AsyncExitStack, configure: Configure, limits: dict[str, int]
) -> None:
    """From the task as it stands to its end, be it a result or one that is too large."""
    configure(limits=limits)
    task_id = await start(shelf.wait, size=2_000)
    await asyncio.wait_for(shelf.gate.started.wait(), TIMEOUT)
    results = " ".join(f"r{number}: result" for number in range(9))
    query = FOLLOW.replace(FIELDS, f"{FIELDS} createdAt {results}")
    applications = [TaskGraphQLConsumer.as_asgi(schema=it) for it in (ALONE, TOGETHER)]
    sockets = [await follow(stack, Rest(), task_id, query, application=it) for it in applications]
    report(50)
    seen: list[list[str]] = [[], []]
    for texts, socket in zip(seen, sockets, strict=True):
        texts.append((await socket.app.receive_output(TIMEOUT))["text"])
    shelf.gate.go.set()
    for texts, socket in zip(seen, sockets, strict=True):
        while '"complete"' not in texts[-1]:
            texts.append((await socket.app.receive_output(TIMEOUT))["text"])
    assert seen[0] == seen[1]
    assert ("TOO_LARGE" in seen[0][-2]) is bool(limits)


async def test_a_slow_socket_delays_no_other(anonymous: Rest, stack: AsyncExitStack) -> None:
    """It gets the newest event once it takes one, in order."""
    task_id = await waiting()
    may_send = asyncio.Event()
    may_send.set()
    application = TaskGraphQLConsumer.as_asgi()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        async def held(message: Any) -> None:
            await may_send.wait()
            await send(message)

        await application(scope, receive, held)

    fast = await follow(stack, Rest(), task_id)
    late = await follow(stack, Rest(), task_id, application=slow)
    may_send.clear()
    for percent in (20, 40, 60):
        report(percent)
        assert (await event(fast))["progress"] == percent
        assert await late.is_silent()
    may_send.set()
    assert [(await event(late))["progress"] for _ in range(2)] == [20, 60]
