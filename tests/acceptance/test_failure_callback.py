"""A server that is killed in the middle of a failure callback, and the one that makes it again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group

from rail_async_tasks.models import TaskExecution
from tests.support.client import Client
from tests.support.places import Place, mostly_on_postgres
from tests.support.server import Server, running_server
from tests.support.waiting import TIMEOUT, eventually, no

LEASE = 5.0


pytestmark = mostly_on_postgres


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack
    await Group.objects.all().adelete()
    await TaskExecution.objects.all().adelete()


async def notes(what: str) -> set[tuple[str, int]]:
    """The calls that have come to this: the task and the process of each."""
    names = Group.objects.filter(name__startswith=f"{what} ").values_list("name", flat=True)
    words = [name.split() async for name in names]
    return {(task_id, int(pid)) for _, task_id, pid in words}


async def until_noted(what: str, expected: set[tuple[str, int]]) -> None:
    found: set[tuple[str, int]] = set()

    async def are_noted() -> bool:
        nonlocal found
        found = await notes(what)
        return found == expected

    await eventually(are_noted, lambda: (what, found, expected), every=0.05)


@pytest.mark.parametrize("function", ["in_a_thread", "on_the_loop"])
async def test_a_call_that_died_with_its_server_is_made_by_another(
    place: Place, stack: AsyncExitStack, function: str
) -> None:
    """Not while its time lasts; then each once, and the marks are gone. No task runs again."""
    options: dict[str, Any] = {
        "on_failure": "callback",
        "failure_callback": f"tests.projects.acceptance.callbacks.{function}",
        "lease_seconds": LEASE,
        "drain_seconds": 1,
    }
    doomed = Server(place.env, loop="asyncio", **options)
    stack.callback(doomed.stop)
    doomed.wait_until_it_answers()
    client = Client(doomed, place.cookies["ada"])
    stack.push_async_callback(client.http.aclose)
    ids = {await client.start("fall") for _ in range(3)}
    killed = doomed.pid
    await until_noted("begun", {(task_id, killed) for task_id in ids})
    os.kill(killed, signal.SIGKILL)
    await asyncio.to_thread(doomed.wait, TIMEOUT)
    await Group.objects.acreate(name="go")
    other = stack.enter_context(running_server(place.env, loop="uvloop", **options))
    marked = TaskExecution.objects.filter(id__in=ids, callback_at__isnull=False)
    # It has looked at least once, at its start: the calls are still the dead server's.
    watcher = Client(other, place.cookies["ada"])
    stack.push_async_callback(watcher.http.aclose)
    fresh = await watcher.start("fall")
    await until_noted("made", {(fresh, other.pid)})
    assert await marked.acount() == 3
    assert {task_id for task_id, _ in await notes("begun")} == {*ids, fresh}
    # Their time passes.
    await marked.aupdate(callback_at=datetime.now(UTC) - timedelta(seconds=1))
    await until_noted("made", {(task_id, other.pid) for task_id in {*ids, fresh}})
    await eventually(lambda: no(marked.aexists()), every=0.05)
    assert len(await notes("begun")) == 3 + 3 + 1
    async for row in TaskExecution.objects.filter(id__in=ids):
        assert (row.status, row.attempts, row.crashes) == ("failed", 1, 0)
