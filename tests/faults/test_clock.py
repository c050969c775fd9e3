"""A wall clock that is an hour off in one process: what happens when is up to the database's."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async

from rail_async_tasks.models import TaskRuntime
from tests.faults.fleet import (
    LEASE,
    Fleet,
    assert_each_attempt_began_once,
    forms,
    held,
    lapse_of,
    on,
    read_notes,
    rows,
    until_final,
    until_judging,
)
from tests.support.client import FOLLOW_MINE, Client, subscribe
from tests.support.measures import report, spread
from tests.support.server import Server
from tests.support.waiting import TIMEOUT

HOUR = 3600.0
CLOCK = str(Path(__file__).with_name("clock"))
OFFSETS = (HOUR, -HOUR, 0.0)
HELD = 5
# `retry_delay` of the task that stumbles, and the share by which it is jittered.
WAIT, JITTER = 2.0, 0.1
CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { status } }"


async def serve_off(fleet: Fleet, offset: float) -> Server:
    """A server whose wall clock is so many seconds ahead."""
    if not offset:
        return await fleet.serve(lease_seconds=LEASE)
    return await fleet.serve(
        lease_seconds=LEASE, env={"PYTHONPATH": CLOCK, "FAULTS_CLOCK": str(offset)}
    )


async def its_own(client: Client, call: str) -> Any:
    """The result of a task that this client's server has run: a list that begins with its pid."""
    while True:
        [row] = await until_final([await client.start(call)])
        assert row.status == "completed", row.error
        pid, *rest = row.result
        if int(pid) == client.server.pid:
            return row, rest


async def feels(client: Client, offset: float) -> None:
    """Every reading of its wall clock is off; what the row says of times is right."""
    began = datetime.now(UTC)
    row, read = await its_own(client, "tellTime")
    ended = datetime.now(UTC)
    for seconds in read:
        assert abs(seconds - offset - ended.timestamp()) < HOUR / 4, (offset, read)
    for at in (row.created_at, row.started_at, row.completed_at, row.updated_at):
        assert began <= at <= ended


async def retries_in_time(client: Client) -> list[float]:
    """Returns by how much the second attempt was late."""
    ids = await asyncio.gather(*(client.start("stumble") for _ in range(HELD)))
    late = []
    for row in await until_final(ids):
        assert (row.status, row.attempts, row.retry_count) == ("completed", 2, 1)
        assert row.started_at
        waited = (row.started_at - row.created_at).total_seconds()
        assert waited >= WAIT * (1 - JITTER), "an early retry"
        late.append(waited - WAIT)
    return late


async def starts_in_time(client: Client) -> list[float]:
    """Tasks with a delay and with a time start then. Returns by how much they were late."""
    late = []
    for delay in (0.5, 2.0):
        at = time.time() + delay + 2.0
        began = datetime.now(UTC)
        _, (delayed, timed) = await its_own(client, f"putOff(delay: {delay}, at: {at})")
        first, second = sorted(await until_final([delayed, timed]), key=lambda it: it.id)
        assert str(first.id) == delayed
        assert first.started_at
        assert second.started_at
        assert (first.started_at - first.created_at).total_seconds() >= delay, "an early start"
        assert second.started_at.timestamp() >= at, "an early start"
        assert began <= first.created_at
        late += [
            (first.started_at - first.created_at).total_seconds() - delay,
            second.started_at.timestamp() - max(at, second.created_at.timestamp()),
        ]
    return late


async def put_off(client: Client) -> list[str]:
    """Tasks with a delay of half an hour, which the clock of one process says is over."""
    at = time.time() + HOUR / 2
    _, (delayed, timed) = await its_own(client, f"putOff(delay: {HOUR / 2}, at: {at})")
    return [delayed, timed]


async def assert_put_off(ids: list[str]) -> None:
    """They wait. Other tasks that waited have run meanwhile."""
    for row in await rows(ids):
        assert (row.status, row.attempts) == ("pending", 0), "an early start"


async def watches(here: Client, there: Client) -> None:
    """A watcher of an owner's tasks here sees one that starts there, to its end."""
    async with here.socket() as ws, asyncio.timeout(TIMEOUT):
        await subscribe(ws, FOLLOW_MINE, {})
        await ws.recv()  # of a task that runs: the stream has begun
        task_id = await there.start("race(seconds: 0.5)")
        async for frame in ws:
            if f'"{task_id}"' in str(frame) and '"completed"' in str(frame):
                return


@sync_to_async
def runtimes() -> list[TaskRuntime]:
    return list(TaskRuntime.objects.order_by("started_at"))


async def assert_all_live(count: int, killed: int) -> None:
    """And renew their leases by the right time. One that was thought dead would have two rows."""
    found = await runtimes()
    assert sum(it.dead for it in found) == killed, "one was thought dead"
    ages = [(datetime.now(UTC) - it.renewed_at).total_seconds() for it in found if not it.dead]
    assert len(ages) == count
    assert all(-0.1 < age < LEASE for age in ages), ages


async def kill(fleet: Fleet, doomed: Client, ids: list[str]) -> list[float]:
    """Kills it. Returns how long after its lease what it held began again, by the database."""
    os.kill(doomed.server.pid, signal.SIGKILL)
    await asyncio.to_thread(doomed.server.wait, TIMEOUT)
    lapse = await lapse_of(doomed.server)
    times = []
    for row in await until_final(ids):
        assert (row.status, row.result) == ("completed", 2)
        assert (row.attempts, row.crashes, row.retry_count) == (2, 1, 0)
        assert row.started_at
        times.append(row.started_at.timestamp() - lapse)
    assert min(times) >= 0
    return times


@forms("rounds", on("postgres", 1), on("postgres", 9, long=True))
async def test_a_wall_clock_that_is_an_hour_off(database: Any, fleet: Fleet, rounds: int) -> None:
    """Ahead, behind and right share a database: none is thought dead, and nothing is early.

    Then one is killed, whose tasks the others run.
    """
    began = time.monotonic()
    servers = await asyncio.gather(*(serve_off(fleet, offset) for offset in OFFSETS))
    clients = [fleet.client(server) for server in servers]
    await asyncio.gather(*map(feels, clients, OFFSETS))
    retried, started, recovered = [], [], []
    for number in range(rounds):
        doomed = number % len(clients)
        await until_judging(began)
        holding = await asyncio.gather(*(held(it, ["hold"] * HELD) for it in clients))
        held_at = time.monotonic()
        waiting = [it for ids in await asyncio.gather(*map(put_off, clients)) for it in ids]
        for late in await asyncio.gather(*map(retries_in_time, clients)):
            retried += late
        for late in await asyncio.gather(*map(starts_in_time, clients)):
            started += late
        await asyncio.gather(*(watches(clients[n], clients[n - 1]) for n in range(len(clients))))
        await assert_put_off(waiting)
        await asyncio.sleep(max(0.0, held_at + 2 * LEASE - time.monotonic()))
        await assert_all_live(len(clients), number)
        for row in await rows([task_id for ids in holding for task_id in ids]):
            assert (row.status, row.attempts, row.crashes) == ("running", 1, 0), "a false rescue"
        recovered += await kill(fleet, clients[doomed], holding[doomed])
        left = [it for n, ids in enumerate(holding) if n != doomed for it in ids]
        for row in await rows(left):
            assert (row.status, row.attempts, row.crashes) == ("running", 1, 0), "a false rescue"
        alive = clients[doomed - 1]
        for task_id in [*left, *waiting]:
            await alive.post(CANCEL, id=task_id)
        await until_final(left)
        if number + 1 < rounds:
            clients[doomed] = fleet.client(await serve_off(fleet, OFFSETS[doomed]))
            began = time.monotonic()
    assert_each_attempt_began_once(await read_notes())
    report(
        "clock", database=database.kind, rounds=rounds, offset=HOUR, retries_late=spread(retried),
        starts_late=spread(started), recovered=spread(recovered),
    )  # fmt: skip
