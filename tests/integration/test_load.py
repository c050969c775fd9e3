"""Many tasks at once: all of them end, in order, within their limits, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from rail_async_tasks import task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.runtime.notices import HEARD_POLL
from tests.support.runtimes import Configure, on_databases
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly", "loop_kind"), pytest.mark.turns("store")]

SHORT, LONG = 500, 10_000
LIMIT = 100


class Crowd:
    """Counts of bodies that run now, and at most."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.done = 0

    def enter(self, where: str = "") -> None:
        self.now[where] += 1
        self.most[where] = max(self.most[where], self.now[where])

    def leave(self, where: str = "") -> None:
        self.now[where] -= 1
        self.done += 1


def open_connections(store: str) -> int:
    """How many connections to the test's database are open."""
    config = connections["default"].settings_dict
    if store == "sqlite":
        file = Path(config["NAME"]).resolve()
        return sum(_target(entry) == str(file) for entry in os.scandir("/proc/self/fd"))
    url = "postgresql://{USER}@{HOST}:{PORT}/postgres".format(**config)
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query, [config["NAME"]]).fetchone()
    assert row is not None
    return int(row[0])


def _target(entry: os.DirEntry[str]) -> str:
    try:
        return str(Path(entry.path).readlink())
    except OSError:  # closed meanwhile
        return ""


async def idle(crowd: Crowd, count: int, seconds: float) -> None:
    """Returns once so many bodies have ended and all outcomes are written."""
    runtime = host.current()
    assert runtime is not None
    await eventually(lambda: crowd.done == count and not runtime.attempts, timeout=seconds)


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
async def test_all_of_thousands_enqueued_at_once_finish(
    configure: Configure, store: str, count: int
) -> None:
    """Never more than `max_concurrency` at once, each exactly once."""
    configure(max_concurrency=LIMIT)
    crowd, numbers = Crowd(), Counter[int]()

    @task(name="l.many")
    async def many(number: int) -> int:
        crowd.enter()
        numbers[number] += 1
        await asyncio.sleep(0.001)
        crowd.leave()
        return number

    handles = await asyncio.gather(*(many.aenqueue(number=number) for number in range(count)))
    await idle(crowd, count, 120)
    assert crowd.most[""] <= LIMIT
    assert numbers == Counter(range(count))
    if store == "memory":
        statuses = Counter([(await handle.arefresh()).status for handle in handles])
        assert statuses == {"completed": count}
    else:
        assert await TaskExecution.objects.filter(status="completed", attempts=1).acount() == count
        assert (await handles[-1].arefresh()).snapshot.result == count - 1


@on_databases
@pytest.mark.parametrize("count", [2 * SHORT, pytest.param(LONG, marks=pytest.mark.long)])
async def test_memory_and_connections_return_to_where_they_were(
    configure: Configure, store: str, count: int
) -> None:
    """After the load, with the runtime still up; once it has stopped its connections are closed."""
    configure(max_concurrency=LIMIT)
    crowd = Crowd()

    @task(name="l.light")
    async def light(text: str) -> str:
        crowd.enter()
        await TaskExecution.objects.filter(name="none").aexists() if crowd.done % 50 == 0 else 0
        crowd.leave()
        return text

    async def run(some: int) -> None:
        before = crowd.done
        await asyncio.gather(*(light.aenqueue(text="x" * 100) for _ in range(some)))
        await idle(crowd, before + some, 120)

    def used() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    before_all = open_connections(store)
    await run(600)  # connections, caches and workers are made
    runtime = host.current()
    assert runtime is not None
    if store == "postgres":  # the connection for notices is open, too
        await eventually(lambda: runtime.services.notices.longest_poll() == HEARD_POLL)
    connections_warm = open_connections(store)
    growths = []
    while not growths or (growths[-1] >= count // 2 and len(growths) < 6):
        before = used()
        await run(count)
        growths.append(used() - before)
    # A leak grows in each round; a cache, or a thread of an earlier test, in one. A snapshot alone
    # is several blocks.
    assert growths[-1] < count // 2, growths
    await eventually(lambda: open_connections(store) <= connections_warm)
    assert connections_warm - before_all <= 9
    await asyncio.wait_for(host.astop(), TIMEOUT)
    # SQLite keeps the files of closed connections open while any thread has one to it: asgiref's,
    # or that of a body which an earlier test has left hanging.
    await sync_to_async(connections.close_all)()
    if store != "sqlite" or not before_all:
        await eventually(lambda: open_connections(store) <= before_all)


async def test_what_starts_first_is_what_matters_most(configure: Configure) -> None:
    """The queue's priority decides, then the task's, then who came first."""
    configure(max_concurrency=1)
    gate, order = asyncio.Event(), []

    @task(name="l.gate")
    async def hold() -> None:
        await gate.wait()

    @task(name="l.ordered")
    async def ordered(label: str) -> None:
        order.append(label)

    holder = await hold.aenqueue()
    await eventually(lambda: runs_here() == 1)
    asked = [
        ("low", 0), ("default", 0), ("low", 9), ("high", 0), ("default", 5), ("default", -5),
        ("high", 1), ("default", 0), ("default", 5), ("high", 0), ("low", 0), ("high", -1),
    ]  # fmt: skip
    handles = []
    for number, (queue, priority) in enumerate(asked):
        bound = ordered.using(queue=queue, priority=priority)
        handles.append(await bound.aenqueue(label=f"{queue} {priority} {number}"))
    gate.set()
    for handle in [holder, *handles]:
        assert (await final(handle)).status == "completed"
    rank = {"high": 0, "default": 1, "low": 2}
    expected = sorted(range(len(asked)), key=lambda it: (rank[asked[it][0]], -asked[it][1], it))
    assert order == [f"{asked[it][0]} {asked[it][1]} {it}" for it in expected]


def runs_here() -> int:
    runtime = host.current()
    return 0 if runtime is None else runtime.statistics()["running"]


async def test_a_queue_has_its_own_limit(configure: Configure) -> None:
    """At most so many of it at once, while other queues go on."""
    configure(queues={"narrow": {"concurrency": 2, "priority": 20}}, max_concurrency=10)
    crowd, gate = Crowd(), asyncio.Event()

    @task(name="l.in_queue")
    async def in_queue(queue: str) -> None:
        crowd.enter(queue)
        if queue == "narrow":
            await gate.wait()
        else:
            await asyncio.sleep(0.001)
        crowd.leave(queue)

    narrow = [await in_queue.using(queue="narrow").aenqueue(queue="narrow") for _ in range(12)]
    others = [await in_queue.aenqueue(queue="default") for _ in range(30)]
    for handle in others:
        assert (await final(handle)).status == "completed"
    assert crowd.now["narrow"] == 2
    gate.set()
    for handle in narrow:
        assert (await final(handle)).status == "completed"
    assert crowd.most["narrow"] == 2
    assert crowd.most["default"] <= 10


async def test_def_tasks_have_their_own_limit(configure: Configure) -> None:
    """`max_workers` threads, whatever coroutines there are."""
    configure(max_workers=3)
    crowd, lock, barrier = Crowd(), threading.Lock(), threading.Barrier(3)

    @task(name="l.threads")
    def in_thread() -> None:
        with lock:
            crowd.enter()
        barrier.wait(TIMEOUT)  # passes only when three are here at once
        with lock:
            crowd.leave()

    for handle in [await in_thread.aenqueue() for _ in range(12)]:
        assert (await final(handle)).status == "completed"
    assert crowd.most[""] == 3


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_full_slots_are_no_reason_to_keep_asking(configure: Configure, kind: str) -> None:
    """While nothing can start, the ledger is asked at most a few times a second."""
    configure(max_concurrency=1, max_workers=1)
    gate, open_ = asyncio.Event(), threading.Event()

    @task(name="l.full")
    async def in_coroutine() -> None:
        await gate.wait()

    @task(name="l.full_thread")
    def in_thread() -> None:
        open_.wait(TIMEOUT)

    declared: Any = in_coroutine if kind == "coroutine" else in_thread
    try:
        handles = [await declared.aenqueue() for _ in range(5)]
        await eventually(lambda: runs_here() == 1)
        runtime = host.current()
        assert runtime is not None
        claims, began = runtime.services.dispatcher.claims, time.monotonic()
        await asyncio.sleep(1.2)  # the time over which claims are counted, at least
        seconds = time.monotonic() - began
        assert runtime.services.dispatcher.claims - claims <= 2 + 3 * seconds
    finally:
        gate.set()
        open_.set()
    for handle in handles:
        assert (await final(handle)).status == "completed"
