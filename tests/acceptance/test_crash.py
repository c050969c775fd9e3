"""A server that dies, or is thought dead, and the one that takes its tasks over."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.support.client import Client
from tests.support.places import Place, mostly_on_postgres
from tests.support.server import Server, running_server
from tests.support.waiting import eventually, no

LEASE = 2.0
# What recovery may take after the lease.
RECOVERY = 5.0


pytestmark = mostly_on_postgres


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def serve(place: Place, stack: AsyncExitStack, **task_settings: Any) -> Server:
    options = {"lease_seconds": LEASE, "drain_seconds": 1, **task_settings}
    return stack.enter_context(running_server(place.env, loop="uvloop", **options))


def client_of(server: Server, place: Place, stack: AsyncExitStack) -> Client:
    client = Client(server, place.cookies["ada"])
    stack.push_async_callback(client.http.aclose)
    return client


async def rows_of(ids: list[str]) -> list[TaskExecution]:
    return [row async for row in TaskExecution.objects.filter(id__in=ids)]


async def until_final(ids: list[str], seconds: float) -> list[TaskExecution]:
    """The rows, once each of them has ended, which they must in that time."""
    rows: list[TaskExecution] = []

    async def all_ended() -> bool:
        rows[:] = await rows_of(ids)
        return all(row.completed_at for row in rows)

    def left() -> object:
        return [(row.status, row.attempts, row.crashes) for row in rows if not row.completed_at]

    await eventually(all_ended, left, timeout=seconds, every=0.05)
    return rows


async def until_judging(since: float) -> None:
    """A process declares none dead before it has held a lease for one whole lease itself."""
    await asyncio.sleep(max(0.0, since + LEASE * 1.5 - time.monotonic()))


async def test_tasks_of_a_killed_server_go_on_elsewhere(
    place: Place, stack: AsyncExitStack
) -> None:
    """In time, with one crash each, no retry consumed, and one attempt more."""
    doomed = Server(place.env, loop="asyncio", lease_seconds=LEASE)
    stack.callback(doomed.stop)
    doomed.wait_until_it_answers()
    ids = [await client_of(doomed, place, stack).start("survive") for _ in range(10)]
    other = serve(place, stack)
    began = time.monotonic()
    watcher = client_of(other, place, stack)
    for task_id in ids:
        await watcher.until(task_id, "running")
    await until_judging(began)
    os.kill(doomed.pid, signal.SIGKILL)
    killed = time.monotonic()
    rows = await until_final(ids, LEASE + RECOVERY)
    assert time.monotonic() - killed > LEASE * 0.5  # not before the lease was over
    for row in rows:
        assert (row.status, row.result) == ("completed", 2)
        assert (row.attempts, row.crashes, row.retry_count) == (2, 1, 0)
    assert await TaskRuntime.objects.filter(dead=True).acount() >= 1


@pytest.mark.long  # tests/faults/test_freeze.py shows the same
async def test_a_frozen_server_changes_nothing_when_it_wakes(
    place: Place, stack: AsyncExitStack
) -> None:
    """Another has finished its tasks: neither progress nor outcome of the first attempt counts."""
    frozen = serve(place, stack)
    serve(place, stack)
    await until_judging(time.monotonic())
    client = client_of(frozen, place, stack)
    body = "climb(steps: 40, pause: 0.1)"
    ids = list(await asyncio.gather(*(client.start(body) for _ in range(10))))
    waiting = TaskExecution.objects.filter(id__in=ids, status="pending")
    await eventually(lambda: no(waiting.aexists()), every=0.05)
    pid = frozen.pid
    os.kill(pid, signal.SIGSTOP)
    stack.callback(os.kill, pid, signal.SIGCONT)
    before = {row.id: row.seq for row in await until_final(ids, LEASE + RECOVERY + 7)}
    os.kill(pid, signal.SIGCONT)
    # It notices, goes on under a new id, and runs tasks again.
    again = await client_of(frozen, place, stack).start("climb(steps: 1, pause: 0)")
    await until_final([again], 10)
    await asyncio.sleep(4.5)  # longer than what was left of the bodies
    for row in await rows_of(ids):
        assert (row.status, row.attempts, row.crashes) == ("completed", 2, 1)
        assert row.seq == before[row.id]


async def test_a_task_that_takes_its_process_down_fails_alone(
    place: Place, stack: AsyncExitStack
) -> None:
    """After `max_crashes` + 1 starts; those that ran beside it complete."""
    ids: list[str] = []
    poison = ""
    for number in range(3):
        doomed = Server(place.env, loop="asyncio", lease_seconds=LEASE, max_crashes=2)
        stack.callback(doomed.stop)
        doomed.wait_until_it_answers()
        if not number:
            client = client_of(doomed, place, stack)
            ids = [await client.start("climb(steps: 30, pause: 0.1)") for _ in range(3)]
            poison = await client.start("die(delay: 1.0)")
        await asyncio.to_thread(doomed.wait, 30)  # it is killed by its task
    survivor = serve(place, stack, max_crashes=2)
    assert survivor.pid
    rows = {str(row.id): row for row in await until_final([*ids, poison], 30)}
    dead = rows.pop(poison)
    assert (dead.status, dead.error_code) == ("failed", "worker_lost")
    assert (dead.attempts, dead.crashes) == (3, 3)
    assert [row.status for row in rows.values()] == ["completed"] * 3


async def test_a_body_that_will_not_end_does_not_hold_the_process(
    place: Place, stack: AsyncExitStack
) -> None:
    """It swallows its cancel, or sits in a thread: the process ends in time, the rows wait."""
    stubborn = Server(place.env, loop="asyncio", lease_seconds=LEASE, drain_seconds=1)
    stack.callback(stubborn.stop)
    stubborn.wait_until_it_answers()
    client = client_of(stubborn, place, stack)
    ids = [await client.start("swallow"), await client.start("sit")]
    for task_id in ids:
        await client.until(task_id, "running")
    began = time.monotonic()
    stubborn.terminate()
    await asyncio.to_thread(stubborn.wait, 20)
    assert time.monotonic() - began < 1 + 15  # the bodies never end
    for row in await rows_of(ids):
        assert (row.status, row.retry_count, row.crashes) == ("retrying", 0, 0)
        assert row.run_after is not None  # not while the old body may still run
    serve(place, stack)
    for row in await until_final(ids, 15):
        assert (row.status, row.result, row.attempts) == ("completed", 2, 2)
