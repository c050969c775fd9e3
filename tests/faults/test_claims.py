"""Several processes that go for the same rows: each attempt begins once; a unique task is one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

from asgiref.sync import sync_to_async
from django.db import transaction

from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution
from tests.faults.fleet import (
    Fleet,
    assert_each_attempt_began_once,
    forms,
    on,
    read_notes,
    rows,
    until_final,
)
from tests.support.client import Client
from tests.support.measures import report
from tests.support.waiting import TIMEOUT, eventually

# Rows, and starts at once: of a short run, and of a long one.
FEW, MANY = 50, 200
# Every process has looked at the ledger by then, and knows when a row will be due: in seconds.
KNOWN = 2.0
# Between rows that come one by one, each of which all processes wake up for: in seconds.
APART = 0.04
# How rows appear: some due already, some for all processes to wake up for at one moment.
ARRIVALS = ("at once", "together", "one by one")

CANCEL = "mutation($id: ID!) { cancelTask(id: $id) { status } }"


def due(arrival: str, at: datetime, number: int) -> datetime | None:
    if arrival == "at once":
        return None
    apart = APART * number if arrival == "one by one" else 0.0
    return at + timedelta(seconds=KNOWN + apart)


@sync_to_async
def appear(arrival: str, count: int, gate: str) -> list[str]:
    """So many rows wait, there all at once, without an event of them.

    Their bodies end once there is the file `gate`.
    """
    at = datetime.now(UTC)
    made = [
        TaskExecution(
            id=new_id(), name="faults.once", status="pending", queue="default", seq=1,
            arguments={"seconds": 0, "gate": gate}, created_at=at, updated_at=at,
            run_after=due(arrival, at, number),
        )
        for number in range(count)
    ]  # fmt: skip
    with transaction.atomic():
        TaskExecution.objects.bulk_create(made)
    return [str(it.id) for it in made]


@forms("rounds count", on("postgres", 1, FEW), on("postgres", 15, MANY, long=True),
       on("sqlite", 5, MANY, long=True))  # fmt: skip
async def test_four_processes_claim_the_same_rows(
    database: Any, fleet: Fleet, tmp_path: Path, rounds: int, count: int
) -> None:
    """Each attempt begins once, whether they find the rows or wake up for them at one moment."""
    servers = await fleet.serve_many(4, max_concurrency=10)
    shares: Counter[str] = Counter()
    for number in range(rounds):
        for arrival in ARRIVALS:
            gate = tmp_path / f"{arrival} {number}"
            ids = await appear(arrival, count, str(gate))
            # One process has no room for all of them: another one gets some.
            await eventually(partial(begun_in_several, ids), every=0.05)
            gate.touch()
            for row in await until_final(ids, KNOWN + APART * count + TIMEOUT):
                assert (row.status, row.result) == ("completed", 1)
                assert (row.attempts, row.crashes, row.retry_count, row.seq) == (1, 0, 0, 3)
            begun = [note for note in await read_notes() if note.task in set(ids)]
            assert_each_attempt_began_once(begun)
            assert {(note.task, note.attempt) for note in begun} == {(it, 1) for it in ids}
            pids = {note.pid for note in begun}
            assert len(pids) > 1, "one process did all of it, without a competitor"
            shares[arrival] += len(pids)
    for server in servers:
        assert "A claim failed" not in server.said()
    mean = {arrival: shares[arrival] / rounds for arrival in ARRIVALS}
    report(
        "claims", database=database.kind, rows=count * rounds * len(ARRIVALS), processes=mean
    )  # fmt: skip


async def begun_in_several(ids: list[str]) -> bool:
    """Whether more than one process has begun some of these."""
    return len({note.pid for note in await read_notes() if note.task in set(ids)}) > 1


# --- unique --------------------------------------------------------------------------------------

UNFINISHED = ("pending", "running", "retrying")


class Sampler:
    """Counts, again and again, how many unfinished rows there are of one name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._most = self.samples = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        unfinished = TaskExecution.objects.filter(name=self._name, status__in=UNFINISHED)
        while True:
            self._most = max(self._most, await unfinished.acount())
            self.samples += 1
            await asyncio.sleep(0.01)

    def assert_one(self) -> None:
        assert self.samples > 5
        assert self._most == 1


async def started(clients: list[Client], call: str, count: int) -> Counter[str]:
    """How often each id was the answer to so many concurrent mutations on all processes."""

    async def one(number: int) -> str:
        answer = await clients[number % len(clients)].ask(
            f"mutation {{ it: {call} {{ taskId error }} }}"
        )
        assert answer["it"]["error"] is None
        return str(answer["it"]["taskId"])

    return Counter(await asyncio.gather(*map(one, range(count))))


async def by_arguments(clients: list[Client], number: int, count: int) -> Counter[str]:
    return await started(clients, f"alone(n: {number}, seconds: 3600)", count)


async def by_key(clients: list[Client], number: int, count: int) -> Counter[str]:
    """By a key that code gives: in tasks, as many, that each start one."""
    starters = await started(clients, f'startKeyed(key: "key {number}")', count)
    assert len(starters) == count  # these are not unique
    return Counter(str(row.result) for row in await until_final(list(starters)))


@forms("rounds count", on("postgres", 1, FEW), on("postgres", 10, MANY, long=True),
       on("sqlite", 10, MANY, long=True))  # fmt: skip
async def test_a_unique_task_that_many_start_is_one(
    database: Any, fleet: Fleet, rounds: int, count: int
) -> None:
    """Every answer names the one unfinished row, by its arguments or by a key; it runs once."""
    servers = await fleet.serve_many(4)
    clients = [fleet.client(server) for server in servers]
    ids = []
    for number in range(rounds):
        async with Sampler("faults.alone") as sampler:
            for by in (by_arguments, by_key):
                [(task_id, answers)] = (await by(clients, number, count)).items()
                assert answers == count
                ids.append(task_id)
                await clients[0].ask(CANCEL, id=task_id)
                [row] = await until_final([task_id])
                assert (row.status, row.attempts, row.unique_key) == ("cancelled", 1, None)
        sampler.assert_one()
    begun = [note for note in await read_notes() if note.task in set(ids)]
    assert_each_attempt_began_once(begun)
    assert {note.task for note in begun} == set(ids)
    report("unique", database=database.kind, starts=2 * count * rounds, rows=len(ids))


@forms("seconds", on("postgres", 3), on("postgres", 30, long=True), on("sqlite", 30, long=True))
async def test_a_unique_task_that_ends_while_many_start_it(
    database: Any, fleet: Fleet, seconds: float
) -> None:
    """There is never a second one unfinished; an answer names one that lived when it was asked."""
    servers = await fleet.serve_many(4)
    clients = [fleet.client(server) for server in servers]
    asked: list[tuple[str, int]] = []
    ended: dict[str, int] = {}  # the tasks that were seen to have ended, numbered in that order
    end = time.monotonic() + seconds

    async def starter(client: Client) -> None:
        while time.monotonic() < end:
            known = len(ended)
            answer = await client.ask("mutation { it: alone(n: -1, seconds: 0) { taskId } }")
            asked.append((answer["it"]["taskId"], known))

    async def look() -> None:
        while time.monotonic() < end:
            for row in await rows():
                if row.completed_at:
                    ended.setdefault(str(row.id), len(ended))
            await asyncio.sleep(0.01)

    async with Sampler("faults.alone") as sampler:
        starters = (starter(client) for client in clients for _ in range(4))
        await asyncio.gather(look(), *starters)
        await eventually(no_unfinished, every=0.05)
    sampler.assert_one()
    found = {str(row.id): row for row in await rows()}
    assert {task_id for task_id, _ in asked} == set(found)
    for row in found.values():
        assert (row.status, row.attempts, row.crashes) == ("completed", 1, 0)
    # No start was answered by a task that was known to have ended before.
    assert [it for it, known in asked if ended.get(it, known) < known] == []
    assert 1 < len(found) < len(asked), "nothing ended, or no start met another's"
    report("unique, ending", database=database.kind, starts=len(asked), rows=len(found))


async def no_unfinished() -> bool:
    return all(row.completed_at for row in await rows())
