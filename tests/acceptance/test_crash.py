"""A server that dies, or is thought dead, and the one that takes its tasks over."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import QuerySet

from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution, TaskRuntime
from tests.support.client import Client
from tests.support.places import Place, mostly_on_postgres
from tests.support.server import Server, running_server
from tests.support.waiting import TIMEOUT, eventually, no

# Of processes that are to judge others, in seconds: they may after one whole lease of their own.
LEASE = 2.0
# Of a process that must not lose its lease, however slow the machine is.
LONG_LEASE = 600.0
# Of a process that judges others and runs tasks.
JUDGING_LEASE = 5.0
DROPPED = "its outcome is dropped"


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


async def until_final(ids: list[str]) -> list[TaskExecution]:
    """The rows, once each of them has ended."""
    rows: list[TaskExecution] = []

    async def all_ended() -> bool:
        rows[:] = await rows_of(ids)
        return all(row.completed_at for row in rows)

    def left() -> object:
        return [(row.status, row.attempts, row.crashes) for row in rows if not row.completed_at]

    await eventually(all_ended, left, every=0.05)
    return rows


async def until_judging() -> None:
    """Returns once a process has declared another one dead: here one whose lease is over.

    It does so after it has held a lease for one whole lease itself.
    """
    at = datetime.now(UTC) - timedelta(seconds=1)
    silent = await TaskRuntime.objects.acreate(
        id=new_id(), place="gone 1", started_at=at, renewed_at=at, lapses_at=at
    )
    await eventually(TaskRuntime.objects.filter(id=silent.id, dead=True).aexists, every=0.05)


def runtimes_of(server: Server) -> QuerySet[TaskRuntime]:
    return TaskRuntime.objects.filter(place__endswith=f" {server.pid}")


async def test_tasks_of_a_killed_server_go_on_elsewhere(
    place: Place, stack: AsyncExitStack
) -> None:
    """Once its lease is over: one crash each, no retry consumed, and one attempt more."""
    doomed = Server(place.env, loop="asyncio", lease_seconds=LONG_LEASE)
    stack.callback(doomed.stop)
    doomed.wait_until_it_answers()
    ids = [await client_of(doomed, place, stack).start("survive") for _ in range(10)]
    watcher = client_of(doomed, place, stack)
    for task_id in ids:
        await watcher.until(task_id, "running")
    serve(place, stack)
    os.kill(doomed.pid, signal.SIGKILL)
    await asyncio.to_thread(doomed.wait, TIMEOUT)
    await until_judging()
    # Its lease is not over: the other process judges, and leaves it alone.
    assert await runtimes_of(doomed).filter(dead=False).aexists()
    assert {(row.status, row.attempts) for row in await rows_of(ids)} == {("running", 1)}
    await runtimes_of(doomed).aupdate(lapses_at=datetime.now(UTC))
    for row in await until_final(ids):
        assert (row.status, row.result) == ("completed", 2)
        assert (row.attempts, row.crashes, row.retry_count) == (2, 1, 0)
    assert await runtimes_of(doomed).filter(dead=True).aexists()


@pytest.mark.long  # tests/faults/test_freeze.py shows the same
async def test_a_frozen_server_changes_nothing_when_it_wakes(
    place: Place, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """Another has finished its tasks: neither progress nor outcome of the first attempt counts."""
    frozen = serve(place, stack)
    serve(place, stack)
    await until_judging()
    client = client_of(frozen, place, stack)
    body = f'climb(steps: 40, pause: 0, seen: "{tmp_path}")'  # until the test says so
    ids = list(await asyncio.gather(*(client.start(body) for _ in range(10))))
    waiting = TaskExecution.objects.filter(id__in=ids, status="pending")
    await eventually(lambda: no(waiting.aexists()), every=0.05)
    pid = frozen.pid
    os.kill(pid, signal.SIGSTOP)
    stack.callback(os.kill, pid, signal.SIGCONT)
    for step in range(1, 41):
        (tmp_path / f"step {step}").touch()  # the bodies end in both processes
    before = {row.id: row.seq for row in await until_final(ids)}
    dropped = frozen.said().count(DROPPED)
    os.kill(pid, signal.SIGCONT)
    # It notices, goes on under a new id, and runs tasks again.
    again = await client_of(frozen, place, stack).start("climb(steps: 1, pause: 0)")
    await until_final([again])
    held = len(ids)
    await eventually(lambda: frozen.said().count(DROPPED) - dropped >= held, frozen.said)
    for row in await rows_of(ids):
        assert (row.status, row.attempts, row.crashes) == ("completed", 2, 1)
        assert row.seq == before[row.id]


async def test_a_task_that_takes_its_process_down_fails_alone(
    place: Place, stack: AsyncExitStack, tmp_path: Path
) -> None:
    """After `max_crashes` + 1 starts; those that ran beside it complete."""
    ids: list[str] = []
    poison = ""
    for number in range(3):
        lease = JUDGING_LEASE if number else LONG_LEASE
        doomed = Server(place.env, loop="asyncio", lease_seconds=lease, max_crashes=2)
        stack.callback(doomed.stop)
        doomed.wait_until_it_answers()
        if not number:
            client = client_of(doomed, place, stack)
            ids = [await client.start("climb(steps: 30, pause: 0.1)") for _ in range(3)]
            poison = await client.start(f'die(go: "{tmp_path / "go"}")')
            (tmp_path / "go").touch()  # it has been answered
        await asyncio.to_thread(doomed.wait, TIMEOUT)  # it is killed by its task
        await runtimes_of(doomed).aupdate(lapses_at=datetime.now(UTC))
    serve(place, stack, lease_seconds=JUDGING_LEASE, max_crashes=2)
    rows = {str(row.id): row for row in await until_final([*ids, poison])}
    dead = rows.pop(poison)
    assert (dead.status, dead.error_code) == ("failed", "worker_lost")
    assert (dead.attempts, dead.crashes) == (3, 3)
    assert [row.status for row in rows.values()] == ["completed"] * 3


async def test_a_body_that_will_not_end_does_not_hold_the_process(
    place: Place, stack: AsyncExitStack
) -> None:
    """It swallows its cancel, or sits in a thread: the process ends, and the rows wait."""
    stubborn = Server(place.env, loop="asyncio", lease_seconds=LONG_LEASE, drain_seconds=1)
    stack.callback(stubborn.stop)
    stubborn.wait_until_it_answers()
    client = client_of(stubborn, place, stack)
    ids = [await client.start("swallow"), await client.start("sit")]
    for task_id in ids:
        await client.until(task_id, "running")
    stubborn.terminate()
    await asyncio.to_thread(stubborn.wait, TIMEOUT)  # the bodies never end
    for row in await rows_of(ids):
        assert (row.status, row.retry_count, row.crashes) == ("retrying", 0, 0)
        assert row.run_after is not None  # not while the old body may still run
    await TaskExecution.objects.filter(id__in=ids).aupdate(run_after=datetime.now(UTC))
    serve(place, stack)
    for row in await until_final(ids):
        assert (row.status, row.result, row.attempts) == ("completed", 2, 2)
