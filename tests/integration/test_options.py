"""Options of a declaration and of the settings that other tests only pass by."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User

from rail_async_tasks import service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.backends.in_process import AsyncioBackend
from rail_async_tasks.errors import InvalidArguments
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.waiting import eventually, final, watched

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def seen_of(handle: Any, go: asyncio.Event) -> list[TaskSnapshot]:
    """Returns all that a watcher receives, for whom the body waits."""
    async with watched(handle) as seen:
        go.set()
        await eventually(lambda: seen[-1].is_final)
    return seen


@in_memory
@pytest.mark.parametrize("form", ["list", "async"])
async def test_track_reports_as_items_are_used_up(configure: Configure, form: str) -> None:
    """By the length of what is iterated, or by the total that is said."""
    configure(progress_interval_seconds=0.001)
    go = asyncio.Event()

    @task(name="o.track")
    async def track(info: Any) -> list[int]:
        used = []
        await go.wait()
        if form == "list":
            for number in info.context.task.track([0, 1, 2, 3], message="counting"):
                used.append(number)
                await asyncio.sleep(0.05)
        else:
            async for number in info.context.task.track(numbers(4), total=4, message="counting"):
                used.append(number)
                await asyncio.sleep(0.05)
        return used

    seen = await seen_of(await track.aenqueue(), go)
    running = [it for it in seen if it.progress_message == "counting"]
    assert [percent for percent in (25, 50, 75) if percent in {it.progress for it in running}] == [
        25, 50, 75
    ]  # fmt: skip
    assert (seen[-1].status, seen[-1].progress, seen[-1].result) == ("completed", 100, [0, 1, 2, 3])


@on_databases
@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_track_over_a_queryset(configure: Configure, store: str, kind: str) -> None:
    """By `async for` in an `async def`, by `for` in a `def`; its total is a count."""

    @task(name="o.queryset")
    async def in_coroutine(info: Any) -> list[str]:
        groups = Group.objects.order_by("name")
        return [group.name async for group in info.context.task.track(groups, message="groups")]

    @task(name="o.queryset_in_thread")
    def in_thread(info: Any) -> list[str]:
        groups = Group.objects.order_by("name")
        return [group.name for group in info.context.task.track(groups, message="groups")]

    await Group.objects.abulk_create([Group(name="a"), Group(name="b")])
    declared = in_coroutine if kind == "coroutine" else in_thread
    snapshot = await final(await declared.aenqueue())
    assert (snapshot.status, snapshot.result) == ("completed", ["a", "b"])
    assert (snapshot.progress, snapshot.progress_message) == (100, "groups")


@in_memory
async def test_track_in_a_def_body_heeds_a_cancel(configure: Configure) -> None:
    """It ends at its next item, cancelled, and what it loops over is closed."""
    used, closed, first = [], [], threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(3)
        finally:
            closed.append(True)

    @task(name="o.cancelled_in_track")
    def track(info: Any) -> list[int]:
        for number in info.context.task.track(items(), total=3):
            used.append(number)
            first.set()
            while not info.context.task.cancel_requested:
                time.sleep(0.002)
        return used

    handle = await track.aenqueue()
    await eventually(first.is_set)
    await handle.acancel()
    snapshot = await final(handle)
    assert (snapshot.status, snapshot.progress) == ("cancelled", 33)
    assert (used, closed) == ([0], [True])


@in_memory
@pytest.mark.parametrize("tracked", [True, False])
async def test_a_task_that_does_not_track_its_progress(configure: Configure, tracked: bool) -> None:
    """`update_progress` does nothing there: no event, nothing kept; success is 100 all the same."""
    go = asyncio.Event()

    @task(name="o.untracked", track_progress=tracked)
    async def untracked(info: Any) -> None:
        await go.wait()
        info.context.task.update_progress(40, "on its way")
        await asyncio.sleep(0.1)

    seen = await seen_of(await untracked.aenqueue(), go)
    assert ("on its way" in {it.progress_message for it in seen}) is tracked
    assert (40 in {it.progress for it in seen}) is tracked
    assert seen[-1].progress == 100


@in_memory
async def test_the_default_queue_is_the_settings(configure: Configure) -> None:
    """Where neither the declaration nor the start names one."""
    configure(default_queue="nightly", queues={"nightly": {"concurrency": 1}})

    @task(name="o.somewhere")
    async def somewhere(info: Any) -> str:
        queue: str = info.context.task.queue
        return queue

    snapshot = await final(await somewhere.aenqueue())
    assert (snapshot.queue, snapshot.result) == ("nightly", "nightly")
    snapshot = await final(await somewhere.using(queue="low").aenqueue())
    assert (snapshot.queue, snapshot.result) == ("low", "low")


class ThreadOfOurs(AsyncioBackend):
    """A backend of a project's own: the runtime has a thread."""

    own_thread = True


@on_databases
async def test_a_backend_of_the_projects_own(configure: Configure) -> None:
    """By the dotted path of its class."""
    configure(backend=f"{__name__}.ThreadOfOurs")

    @task(name="o.elsewhere")
    async def elsewhere() -> int:
        return threading.get_ident()

    thread = (await final(await elsewhere.aenqueue())).result
    assert isinstance(thread, int)
    assert thread != threading.get_ident()


@in_memory
async def test_a_body_is_given_no_request(configure: Configure) -> None:
    """Its context has the task, the user and the tenant: no header, cookie or token is kept."""

    @task(name="o.curious")
    async def curious(info: Any) -> list[list[str]]:
        public = [
            [name for name in dir(it) if not name.startswith("_")] for it in (info, info.context)
        ]
        return [*public, [info.context.tenant_id]]

    snapshot = await final(await curious.using(tenant_id="acme").aenqueue())
    assert snapshot.result == [["context"], ["task", "tenant_id", "user"], ["acme"]]


async def test_using_refuses_what_it_does_not_know(configure: Configure) -> None:
    """A misspelt `owner` would make a task that anybody may read."""

    @task(name="options.strict")
    async def strict() -> None: ...

    with pytest.raises(TypeError, match="did you mean 'owner'"):
        strict.using(onwer=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="it takes queue"):
        strict.using(delay=1).using(nonsense=1)  # type: ignore[call-arg]
    for owner in (object(), [1], 1.0, True, "", User(username="unsaved")):
        with pytest.raises(InvalidArguments, match="saved user or their primary key"):
            await strict.using(owner=owner).aenqueue()
    assert await service.alist(SYSTEM) == []
    for owner in (None, AnonymousUser()):
        handle = await strict.using(owner=owner).aenqueue()
        assert handle.snapshot.owner_id is None
