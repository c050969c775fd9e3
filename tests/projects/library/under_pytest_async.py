"""The tools in coroutine tests, under pytest-asyncio and under anyio. Run by `tests/testing`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from django.db import connection
from graphql import GraphQLError

from rail_async_tasks import TaskFailed, WouldWaitForever
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.testing import RailTasks, arun_task, run_task, subscribe
from tests.projects.library import tasks
from tests.projects.library.tasks import burn, give_back, lend, on_loop, remind, sweep
from tests.projects.library.threads import threads_of_runtimes

LEND = 'mutation { lend(title: "Emma", days: 3) { taskId status } }'
FOLLOW = "subscription($id: ID!) { taskProgress(taskId: $id) { status progress name } }"

kinds = pytest.mark.parametrize(
    "kind", [pytest.param("db", marks=pytest.mark.django_db),
             pytest.param("commits", marks=pytest.mark.django_db(transaction=True))]
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_has_leaked(db: None) -> None:
    assert not TaskExecution.objects.exists()
    assert not Group.objects.exists()
    assert not User.objects.exists()
    assert threads_of_runtimes() == []


@kinds
async def test_the_orm_of_the_test_and_of_the_bodies_is_one(
    rail_tasks: RailTasks, kind: str
) -> None:
    in_transaction = await sync_to_async(lambda: connection.in_atomic_block)()
    assert in_transaction is (kind == "db")
    await Group.objects.acreate(name="before")
    handle = await lend.aenqueue(title="Emma")
    assert await Group.objects.acount() == 1
    rail_tasks.assert_enqueued(lend, title="Emma")
    await rail_tasks.arun()
    assert await Group.objects.acount() == 2
    assert (await handle.aresult())["title"] == "Emma"


@kinds
@pytest.mark.parametrize("spelling", ["plain", "awaited", "arun", "in a thread"])
async def test_every_spelling_of_run(rail_tasks: RailTasks, kind: str, spelling: str) -> None:
    await lend.aenqueue(title="Emma")
    await burn.aenqueue(title="Emma")
    await on_loop.aenqueue()
    if spelling == "plain":
        ran = rail_tasks.run()
    elif spelling == "awaited":
        ran = await rail_tasks.run()
    elif spelling == "arun":
        ran = await rail_tasks.arun()
    else:
        ran = await sync_to_async(rail_tasks.run)()
    assert [it.status for it in ran] == ["completed", "failed", "completed"]
    assert str(ran[1].__cause__) == "Emma does not burn"
    with pytest.raises(TaskFailed):
        await ran[1].aresult()
    # A failed body's writes stay, in a transaction of the test as without one.
    assert {it.name async for it in Group.objects.all()} == {"Emma", "ashes of Emma"}
    own_loop = tasks.loops.pop() is asyncio.get_running_loop()
    assert own_loop is (spelling in ("arun", "in a thread"))


@kinds
async def test_the_rest_are_plain_calls(rail_tasks: RailTasks, kind: str) -> None:
    await remind.aenqueue(title="Emma")
    assert [it.status for it in rail_tasks.run()] == ["retrying"]
    rail_tasks.advance(10)
    assert [it.status for it in await rail_tasks.arun()] == ["retrying"]
    rail_tasks.advance(300)
    assert len(rail_tasks.enqueued(sweep)) == 1
    assert len(await rail_tasks.enqueued(remind)) == 1
    with pytest.raises(AssertionError, match=r"2\. sweep"):
        rail_tasks.assert_not_enqueued(remind)


@kinds
@pytest.mark.parametrize("relay", [tasks.relay, tasks.relay_in_a_thread])
async def test_a_body_that_waits_for_another(rail_tasks: RailTasks, relay: Any, kind: str) -> None:
    for run in (rail_tasks.arun, rail_tasks.run):
        handle = await relay.aenqueue(title=f"Emma {run.__name__}")
        await run()
        assert (await handle.aresult()).startswith("Emma"), handle.__cause__


async def test_a_result_before_the_run(rail_tasks: RailTasks) -> None:
    handle = await lend.aenqueue(title="Emma")
    with pytest.raises(WouldWaitForever, match="is pending"):
        await handle.aresult(60)


@kinds
async def test_a_request(rail_tasks: RailTasks, async_client: Any, kind: str) -> None:
    answer = await async_client.post("/graphql/", {"query": LEND}, content_type="application/json")
    assert answer.json()["data"]["lend"]["status"] == "pending"
    rail_tasks.assert_enqueued(lend, days=3)
    assert [it.status for it in await rail_tasks.arun()] == ["completed"]


@kinds
async def test_one_body(kind: str) -> None:
    """Without the fixture, too: it has the test's connection."""
    run = run_task(lend, title="a")
    assert (run.progress, run.result["by"]) == (
        [(50, "Looking it up"), (100, None)],
        "AnonymousUser",
    )
    assert (await run_task(lend, title="b")).result["title"] == "b"
    assert (await arun_task(lend, User(username="ann"), title="c")).result["by"] == "ann"
    assert (await arun_task(give_back, title="c")).result == 1
    assert run_task(give_back, title="b").result == 1
    await arun_task(on_loop)
    assert tasks.loops.pop() is asyncio.get_running_loop()
    with pytest.raises(ValueError, match="does not burn"):
        await arun_task(burn, title="x")
    with pytest.raises(ValueError, match="does not burn"):
        run_task(burn, title="y")
    assert run_task(tasks.shelf).result == ["a", "ashes of x", "ashes of y"]


@kinds
async def test_a_subscription(rail_tasks: RailTasks, kind: str) -> None:
    ann = await User.objects.acreate(username="ann")
    handle = await lend.using(owner=ann).aenqueue(title="Emma")
    updates = subscribe(FOLLOW, {"id": str(handle.id)}, user=ann)
    first = await anext(updates)
    assert first == {"taskProgress": {"status": "pending", "progress": 0, "name": "lend"}}
    await rail_tasks.arun()
    assert [it["taskProgress"]["status"] async for it in updates][-1] == "completed"
    with pytest.raises(GraphQLError) as refused:
        await anext(rail_tasks.subscribe(FOLLOW, {"id": str(handle.id)}))
    assert refused.value.extensions == {"code": "NOT_FOUND"}
    with pytest.raises(GraphQLError, match="Cannot query field"):
        await anext(subscribe("subscription { nothing }"))


async def test_a_subscription_to_all_of_ones_own(rail_tasks: RailTasks) -> None:
    ann = await User.objects.acreate(username="ann")
    updates = subscribe("subscription { myTaskUpdates { name status } }", user=ann, timeout=0.05)
    with pytest.raises(TimeoutError, match=r"No event of the subscription came in 0\.05 s"):
        await anext(updates)
    updates = subscribe("subscription { myTaskUpdates { name status } }", user=ann)
    await lend.using(owner=ann).aenqueue(title="Emma")
    assert await anext(updates) == {"myTaskUpdates": {"name": "lend", "status": "pending"}}
    await updates.aclose()
