"""The arq backend's own ground: what is in Redis, who takes it, and what if it is gone."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.jobs import Job, JobStatus
from arq.worker import async_check_health
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from devservers.redis import RedisServer, running_redis
from rail_async_tasks import Task, backends, queues, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.backends.arq import ArqBackend, deserialize, library, serialize
from rail_async_tasks.backends.arq.backend import library as find_library
from rail_async_tasks.backends.arq.keys import EXECUTE, queue_key, wake_key
from rail_async_tasks.backends.arq.scripts import CLAIM
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.workers.arq import worker
from tests.support.runtimes import (
    Configure,
    configure,
    declarations_are_the_tests_own,
    ends_cleanly,
    store,
)
from tests.support.server import ROOT
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually, final

__all__ = ["configure", "declarations_are_the_tests_own", "ends_cleanly", "store"]

on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
pytestmark = [on_sqlite, pytest.mark.usefixtures("ends_cleanly"), pytest.mark.long]

DEFAULT = queue_key("default")


# Seconds for which a job is a worker's; renewed three times as often.
LEASE = 3.0


@pytest.fixture(scope="module")
def server(redis_program: Path) -> Iterator[RedisServer]:
    with running_redis() as found:
        yield found


@pytest.fixture
def arq(configure: Configure, server: RedisServer) -> Iterator[Callable[..., None]]:
    """Settings of a project that uses it, on an empty Redis; call it for others."""
    server.ask("FLUSHALL")

    def set_(**settings: Any) -> None:
        configure(backend="arq", redis_url=server.url, bus="memory", **settings)
        backends._backend.cache_clear()

    set_()
    yield set_
    backends._backend.cache_clear()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[ArqRedis]:
    """A client as a user of arq has it."""
    client = await create_pool(
        RedisSettings.from_dsn(server.url), job_serializer=serialize, job_deserializer=deserialize
    )
    yield client
    await client.aclose()


class CountedWorker(worker.TaskWorker):
    """Counts how often it has looked for jobs."""

    polls = 0

    async def _poll_iteration(self) -> None:
        await super()._poll_iteration()
        self.polls += 1


async def polled(it: CountedWorker, times: int = 3) -> None:
    """Returns when the worker has looked so many times more: what it would take, it has taken."""
    enough = it.polls + times
    await eventually(lambda: it.polls >= enough)


async def listening(redis: ArqRedis, count: int) -> None:
    """Returns when so many workers wait for a wake-up."""

    async def waiting() -> bool:
        return (await cast(Any, redis).info("clients"))["blocked_clients"] == count

    await eventually(waiting)


@asynccontextmanager
async def working(
    *queues: QueueLimits, concurrency: int = 10, lease: float = 15.0, burst: bool = False
) -> AsyncIterator[tuple[CountedWorker, asyncio.Future[None]]]:
    """A worker in this loop, with its run."""
    runtime = await host.aruntime()
    url = get_settings().redis_url
    assert url is not None
    chosen = queues or (QueueLimits("high", 10), QueueLimits("default"), QueueLimits("low", -10))
    it = CountedWorker(
        library.connect(url),
        chosen,
        concurrency=concurrency,
        threads=get_settings().max_workers,
        free_threads=partial(runtime.slots.room, "", True),
        lease=lease,
        look=partial(runtime.send_waiting, [queue.name for queue in chosen]),
        burst=burst,
    )
    run = asyncio.ensure_future(it.main())
    try:
        yield it, run
    finally:
        await it.finish(run)


def adds() -> Task:
    @task(name="arq.add")
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    return add


class Gated:
    """A task that waits to be let go, and what of it has begun."""

    def __init__(self, name: str = "arq.gated", **options: Any) -> None:
        self.began: list[Any] = []
        self.gate = asyncio.Event()

        @task(name=name, **options)
        async def gated(mark: str) -> str:
            self.began.append(mark)
            await self.gate.wait()
            return mark

        self.task = gated


async def asked(redis: ArqRedis, *command: Any) -> Any:
    return await cast(Any, redis).execute_command(*command)


async def _are(awaited: Awaitable[Any], wanted: Any) -> bool:
    return bool(await awaited == wanted)


async def until_queued(redis: ArqRedis, count: int, queue: str = "default") -> None:
    async def there() -> bool:
        return int(await asked(redis, "ZCARD", queue_key(queue))) == count

    await eventually(there)


async def keys(redis: ArqRedis) -> set[str]:
    """All keys but those of health, which end by themselves, and the tokens to wake."""
    found = {key.decode(errors="replace") for key in await asked(redis, "KEYS", "*")}
    return {key for key in found if not key.endswith(":health-check") and ":wake:" not in key}


async def until_empty(redis: ArqRedis) -> None:
    async def empty() -> bool:
        return not await keys(redis)

    await eventually(empty)


async def _left_behind(name: str, queue: str = "default", **arguments: Any) -> TaskExecution:
    """Creates a row that is not sent yet."""
    now = timezone.now()
    return await TaskExecution.objects.acreate(
        id=new_id(), name=name, status="pending", queue=queue, created_at=now, updated_at=now,
        arguments=arguments,
    )  # fmt: skip


# --- what is in Redis -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Call to deprecated close")  # arq's own
async def test_arqs_own_tools_read_the_queue(
    arq: Any, redis: ArqRedis, server: RedisServer
) -> None:
    """Waiting and running tasks, and workers; at the end nothing is left."""
    gated = Gated()
    handle = await gated.task.aenqueue(mark="x")
    await until_queued(redis, 1)
    (queued,) = await redis.queued_jobs(queue_name=DEFAULT)
    assert (queued.function, list(queued.args)) == (EXECUTE, [str(handle.id)])
    assert queued.kwargs == {"task": "arq.gated", "kind": "async def"}
    assert queued.job_id == f"{handle.id}:1"
    job = Job(queued.job_id, redis, DEFAULT, deserialize)
    assert await job.status() is JobStatus.queued
    settings = RedisSettings.from_dsn(server.url)
    assert await async_check_health(settings, queue_name=DEFAULT) == 1
    async with working():
        await eventually(lambda: gated.began)
        assert await job.status() is JobStatus.in_progress
        gated.gate.set()
        await final(handle)
        await until_empty(redis)
        assert await job.status() is JobStatus.not_found
        assert await async_check_health(settings, queue_name=DEFAULT) == 0
    assert await async_check_health(settings, queue_name=DEFAULT) == 1


async def test_what_is_stored_is_json_of_an_id(arq: Any, redis: ArqRedis) -> None:
    """The arguments stay in the row."""
    handle = await adds().aenqueue(a=1, b=2)
    await until_queued(redis, 1)
    stored = json.loads(await asked(redis, "GET", f"arq:job:{handle.id}:1"))
    assert stored.pop("et") > 1_600_000_000_000
    assert stored == {
        "t": None, "f": EXECUTE, "a": [str(handle.id)],
        "k": {"task": "arq.add", "kind": "async def"},
    }  # fmt: skip


async def test_a_later_dispatch_takes_the_place_of_the_one_before(
    arq: Any, redis: ArqRedis
) -> None:
    """A task that waits for long is in the queue once, and does not go to its end."""
    add = adds()
    first, second = await add.aenqueue(a=1, b=1), await add.aenqueue(a=2, b=2)
    await until_queued(redis, 2)
    before = await asked(redis, "ZRANGE", DEFAULT, 0, -1, "WITHSCORES")
    await TaskExecution.objects.filter(id=first.id).aupdate(dispatched_at=None)

    async def sent_again() -> bool:
        return (await TaskExecution.objects.aget(id=first.id)).dispatches == 2

    await eventually(sent_again)
    await eventually(lambda: asked(redis, "EXISTS", f"arq:job:{first.id}:2"))
    after = await asked(redis, "ZRANGE", DEFAULT, 0, -1, "WITHSCORES")
    assert after[0] == f"{first.id}:2".encode()
    assert after[1:] == [before[1], *before[2:]]
    assert await keys(redis) == {DEFAULT, f"arq:job:{first.id}:2", f"arq:job:{second.id}:1"}


# --- claims ---------------------------------------------------------------------------------------


async def test_what_matters_most_starts_first(arq: Any, redis: ArqRedis) -> None:
    """The queues by their priority, and in a queue the executions by theirs."""
    gated = Gated()
    gated.gate.set()
    for queue, priority in (
        ("low", 500), ("default", -3), ("default", 0), ("default", 7), ("default", 7), ("high", -9),
    ):  # fmt: skip
        mark = f"{queue} {priority}"
        await gated.task.using(queue=queue, priority=priority).aenqueue(mark=mark)
    await until_queued(redis, 4)
    await until_queued(redis, 1, "high")
    await until_queued(redis, 1, "low")
    async with working(concurrency=1):
        await eventually(lambda: len(gated.began) == 6)
    assert gated.began == [
        "high -9", "default 7", "default 7", "default 0", "default -3", "low 500",
    ]  # fmt: skip
    await until_empty(redis)


async def test_no_more_runs_at_once_than_may(
    arq: Any, redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All together, and of a queue that has a limit of its own; the others don't wait for it."""
    monkeypatch.setattr(worker, "CLAIM_INTERVAL", 0.1)
    gated = Gated()
    for number in range(6):
        await gated.task.using(queue="high").aenqueue(mark=f"high {number}")
        await gated.task.aenqueue(mark=f"default {number}")
    await until_queued(redis, 6)
    await until_queued(redis, 6, "high")
    limits = QueueLimits("high", 10, 2), QueueLimits("default")
    async with working(*limits, concurrency=5) as (it, _):
        await eventually(lambda: len(gated.began) == 5)
        await polled(it)
        assert sorted(it.split()[0] for it in gated.began) == ["default"] * 3 + ["high"] * 2
        gated.gate.set()
        await eventually(lambda: len(gated.began) == 12)
        await until_empty(redis)


async def test_what_finds_no_thread_is_left_to_others(
    arq: Any, redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And holds up no coroutine behind it; this worker takes it once a thread is free."""
    arq(max_workers=2)
    monkeypatch.setattr(worker, "CLAIM_INTERVAL", 0.1)
    go, running = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    @task(name="arq.blocks")
    def blocks(number: int) -> int:
        running.append(number)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(TIMEOUT)
        return number

    handles = [await blocks.aenqueue(number=number) for number in range(5)]
    await until_queued(redis, 5)
    quick = await adds().aenqueue(a=1, b=1)
    async with working() as (it, _):
        assert (await final(quick)).result == 2
        await eventually(lambda: len(running) == 2)
        await polled(it)
        now = time.time() * 1000
        assert await asked(redis, "ZCOUNT", DEFAULT, "-inf", now) == 3
        go.set()
        assert [(await final(it)).result for it in handles] == list(range(5))
        await until_empty(redis)


async def test_a_start_wakes_an_idle_worker(
    arq: Any, redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for the worker's next look; and one word is enough for a hundred."""
    monkeypatch.setattr(worker, "CLAIM_INTERVAL", 3600.0)
    add = adds()
    async with working(concurrency=3), working(concurrency=3):
        assert (await final(await add.aenqueue(a=1, b=1))).result == 2
        await listening(redis, 2)
        handles = await asyncio.gather(*(add.aenqueue(a=0, b=number) for number in range(100)))
        for number, handle in enumerate(handles):
            assert (await final(handle)).result == number


async def test_one_word_wakes_as_many_workers_as_it_takes(
    arq: Any, redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that fills its slots wakes the next one."""
    monkeypatch.setattr(worker, "CLAIM_INTERVAL", 3600.0)
    gated = Gated()
    async with working(concurrency=2), working(concurrency=2), working(concurrency=2):
        await listening(redis, 3)
        handles = await asyncio.gather(*(gated.task.aenqueue(mark=str(it)) for it in range(6)))
        await eventually(lambda: len(gated.began) == 6)
        gated.gate.set()
        for handle in handles:
            await final(handle)


async def test_a_dead_workers_jobs_come_due_again(arq: Any, redis: ArqRedis) -> None:
    """When its lease on them ends. Those of a live worker don't, however long they run."""
    gated = Gated()
    handle = await gated.task.aenqueue(mark="x")
    await until_queued(redis, 1)
    wake = "rail-async-tasks:wake:default"
    taken = await cast(Any, redis).eval(CLAIM, 2, DEFAULT, wake, 500, 1, 1, 1)
    assert taken[4] == f"{handle.id}:1".encode()
    scores = set()

    async def renewed_often() -> bool:
        scores.add(await asked(redis, "ZSCORE", DEFAULT, f"{handle.id}:1"))
        return len(scores) > 4

    async with working(lease=LEASE), working(lease=LEASE):
        assert gated.began == []
        await eventually(lambda: gated.began)
        await eventually(renewed_often)  # for longer than one lease
        assert await asked(redis, "GET", f"arq:retry:{handle.id}:1") == b"2"
        gated.gate.set()
        await final(handle)
    assert gated.began == ["x"]
    assert (await TaskExecution.objects.aget(id=handle.id)).attempts == 1


async def test_jobs_that_a_stock_worker_runs_are_read_past(arq: Any, redis: ArqRedis) -> None:
    """They keep their low scores."""
    add = adds()
    first, second = await add.aenqueue(a=1, b=1), await add.aenqueue(a=2, b=2)
    await until_queued(redis, 2)
    await asked(redis, "SET", f"arq:in-progress:{first.id}:1", "1")
    async with working(concurrency=1):
        assert (await final(second)).result == 4
        assert await asked(redis, "ZCARD", DEFAULT) == 1
        await asked(redis, "DEL", f"arq:in-progress:{first.id}:1")
        await asked(redis, "RPUSH", "rail-async-tasks:wake:default", "1")
        assert (await final(first)).result == 2


async def test_arqs_count_of_tries_fails_nothing(arq: Any, redis: ArqRedis) -> None:
    """Nor does a job that is no number in its place."""
    add = adds()
    first, second = await add.aenqueue(a=1, b=1), await add.aenqueue(a=2, b=2)
    await until_queued(redis, 2)
    await asked(redis, "SET", f"arq:retry:{first.id}:1", "1000")
    await asked(redis, "RPUSH", f"arq:retry:{second.id}:1", "no number")
    async with working():
        assert (await final(first)).result == 2
        assert (await final(second)).result == 4
        await until_empty(redis)


# --- what others write ----------------------------------------------------------------------------


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


async def test_what_is_forged_neither_runs_nor_is_unpickled(
    arq: Any, redis: ArqRedis, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said and removed; the next good one runs."""
    mark = tmp_path / "exploded"
    touch = ["touch", str(mark)]
    add = adds()
    waits = await add.using(queue="low").aenqueue(a=1, b=1)  # its queue has no worker
    whole = {"t": 1, "f": EXECUTE, "a": [str(new_id())], "k": {}, "et": 1}
    forged: dict[bytes, bytes] = {
        b"bomb": pickle.dumps(Bomb(str(mark))),
        b"whole-bomb": pickle.dumps({**whole, "a": [Bomb(str(mark))]}),
        b"path": json.dumps({**whole, "f": "os.system", "a": touch}).encode(),
        b"function": json.dumps({**whole, "f": "subprocess.run", "a": [str(waits.id)]}).encode(),
        b"no-id": json.dumps({**whole, "a": ["os.system"]}).encode(),
        b"two": json.dumps({**whole, "a": [str(new_id())] * 2}).encode(),
        b"object": json.dumps({**whole, "a": [{"id": 1}]}).encode(),
        b"unknown": json.dumps(whole).encode(),
        b"words": b"[1, 2",
        b"deep": b"[" * 100_000,
        b"long": json.dumps({**whole, "k": {"x": "y" * 5000}}).encode(),
        b"\xff\xfe not text": b"{}",
        b"nothing": b"",
    }
    for name, payload in forged.items():
        if payload:
            await asked(redis, "SET", b"arq:job:" + name, payload)
        await asked(redis, "ZADD", DEFAULT, 1, name)
    await asked(redis, "RPUSH", "arq:job:list", "x")
    await asked(redis, "ZADD", DEFAULT, 1, "list")
    caplog.set_level(logging.WARNING)
    await until_queued(redis, 1, "low")
    async with working(QueueLimits("default"), concurrency=3) as (it, _):
        assert (await final(await add.aenqueue(a=1, b=1))).result == 2
        left = {queue_key("low"), f"arq:job:{waits.id}:1"}
        await eventually(lambda: _are(keys(redis), left))
        assert it.dropped >= len(forged) - 3
    assert "is none of ours" in caplog.text
    assert "is no task's id" in caplog.text
    assert not mark.exists()
    assert await TaskExecution.objects.acount() == 2
    assert (await waits.arefresh()).snapshot.status == "pending"


# --- when Redis is gone ---------------------------------------------------------------------------


async def test_what_redis_has_lost_is_sent_again(
    arq: Any,
    redis: ArqRedis,
    timings: Timings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FLUSHALL loses nothing: what ran ends once, and what waited runs, some seconds later."""
    timings.set("inventory", ask_after=0.5)
    timings.set("inventory", ask_every=0.5)
    gated, missing = Gated(), ArqBackend.missing
    answers: list[int] = []

    async def noted(self: ArqBackend, asked: Sequence[Dispatch]) -> Sequence[Dispatch]:
        lost = await missing(self, asked)
        answers.append(len(lost))
        return lost

    monkeypatch.setattr(ArqBackend, "missing", noted)
    handles = [await gated.task.aenqueue(mark=str(number)) for number in range(30)]
    async with working(concurrency=5):
        await eventually(lambda: len(gated.began) == 5)
        await until_queued(redis, 30)
        answers.clear()
        await eventually(lambda: len(answers) >= 2)  # it has them
        assert sum(answers) == 0
        assert "has lost" not in caplog.text
        await asked(redis, "FLUSHALL")
        gated.gate.set()
        for number, handle in enumerate(handles):
            assert (await final(handle)).result == str(number)
        await until_empty(redis)
    assert len(gated.began) == 30
    assert "has lost" in caplog.text
    rows = TaskExecution.objects.filter(dispatches__gt=2)
    assert await rows.acount() == 0


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_an_outage_ends_no_worker(
    arq: Any,
    server: RedisServer,
    how: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Running tasks go on; new ones wait; one warning, and one at its end.

    A server that is frozen takes connections and commands, and says nothing.
    """
    gated, add = Gated(), adds()
    runs = await gated.task.aenqueue(mark="x")
    pid = int(server.ask("INFO", "server")["process_id"])
    async with working() as (it, run):
        await eventually(lambda: gated.began)
        if how == "stopped":
            server.stop()
        else:
            os.kill(pid, signal.SIGSTOP)
        try:
            waits = [await add.aenqueue(a=1, b=number) for number in range(5)]
            gated.gate.set()
            assert (await final(runs)).result == "x"
            await eventually(lambda: "Redis does not answer" in caplog.text)
            await eventually(lambda: "does not take tasks" in caplog.text)
            await polled(it, 2)
            assert not run.done()
            assert {(await it.arefresh()).snapshot.status for it in waits} == {"pending"}
        finally:
            if how == "stopped":
                server.start()
            else:
                os.kill(pid, signal.SIGCONT)
        for number, handle in enumerate(waits):
            assert (await final(handle)).result == 1 + number
        assert not run.done()
        # From here on a start must wake it.
        monkeypatch.setattr(worker, "CLAIM_INTERVAL", 3600.0)
        for _ in range(3):
            await final(await add.aenqueue(a=1, b=1))
    assert caplog.text.count("Redis does not answer") == 1
    assert caplog.text.count("Redis answers again") == 1


async def test_a_redis_that_refuses_says_so_in_a_line(
    arq: Any, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Full, or read-only after a failover: what it says, and not the script that it was sent."""
    add = adds()
    async with working():
        server.ask("CONFIG", "SET", "maxmemory", "1")
        try:
            waits = await add.aenqueue(a=1, b=2)
            await eventually(lambda: "does not take tasks" in caplog.text)
        finally:
            server.ask("CONFIG", "SET", "maxmemory", "0")
        assert (await final(waits)).result == 3
    message = [it.getMessage() for it in caplog.records if "does not take tasks" in it.getMessage()]
    assert message
    assert all("maxmemory" in it and "redis.call" not in it and len(it) < 300 for it in message)
    assert "redis.call" not in "".join(it.getMessage() for it in caplog.records)


async def test_a_key_of_the_wrong_type_stops_no_other_queue(
    arq: Any, redis: ArqRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """Attack: one who may write to Redis stops every queue by one key."""
    add = adds()
    for key in (queue_key("low"), wake_key("high")):
        await asked(redis, "SET", key, "forged")
    async with working() as (_, run):
        for number in range(3):
            assert (await final(await add.aenqueue(a=number, b=2))).result == number + 2
        await eventually(lambda: "queue low is not served" in caplog.text)
        assert not run.done()
    await asked(redis, "DEL", queue_key("low"))


# --- the end --------------------------------------------------------------------------------------


async def test_a_burst_ends_when_nothing_waits(arq: Any, redis: ArqRedis) -> None:
    """Not when Redis has no more for the moment: the ledger may have kept some back."""
    add = adds()
    handles = await asyncio.gather(*(add.aenqueue(a=0, b=number) for number in range(450)))
    later = await add.using(delay=3600).aenqueue(a=1, b=1)
    await until_queued(redis, 200)
    async with working(burst=True) as (_, run):
        await asyncio.wait_for(run, TIMEOUT)
    ended = TaskExecution.objects.filter(status="completed")
    assert await ended.acount() == len(handles)
    assert (await later.arefresh()).snapshot.status == "pending"
    row = await _left_behind("arq.add", a=1, b=1)
    async with working(burst=True) as (_, run):
        await asyncio.wait_for(run, TIMEOUT)
    await row.arefresh_from_db()
    assert row.status == "completed"


async def test_a_cancelled_task_leaves_the_queue(arq: Any, redis: ArqRedis) -> None:
    """A waiting task is dropped at its turn, and a running one is asked to end."""
    gated = Gated()
    runs = await gated.task.aenqueue(mark="runs")
    async with working(concurrency=1):
        await eventually(lambda: gated.began)
        waits = await gated.task.aenqueue(mark="waits")
        await until_queued(redis, 2)
        await service.acancel(SYSTEM, waits.id)
        await service.acancel(SYSTEM, runs.id)
        assert (await final(runs)).status == "cancelled"
        await until_empty(redis)
    assert gated.began == ["runs"]


# --- settings and the command ---------------------------------------------------------------------


async def test_without_arq_the_extra_is_named(arq: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not by a traceback of its import."""
    module = "rail_async_tasks.backends.arq.library"
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr("rail_async_tasks.backends.arq.library")
    with pytest.raises(ConfigurationError, match=r"rail_async_tasks\[arq\]"):
        find_library()
    with pytest.raises(ConfigurationError, match=r"rail_async_tasks\[arq\]"):
        ArqBackend()


async def test_a_url_that_cannot_be_read_is_not_quoted(arq: Any) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError) as caught:
        library.connect("redis://:secret@127.0.0.1:6379/0?socket_timeout=often")
    assert "secret" not in str(caught.value)
    assert "redis_url" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"backend": "asyncio"}, (), 'task_settings["backend"] is "asyncio"'),
        ({"enabled": False}, (), "no tasks run"),
        ({}, ("--queue", "unknown"), "a queue 'unknown'. Known are default, high, low"),
        ({}, ("--concurrency", "0"), "--concurrency is a number from 1, not 0"),
    ],
)
async def test_what_the_command_refuses(
    arq: Callable[..., None], configure: Configure, settings: Any, arguments: Any, message: str
) -> None:  # fmt: skip
    """With a word on what to do."""
    if "backend" in settings:
        configure(**settings)
    else:
        arq(**settings)
    with pytest.raises(CommandError) as caught:
        await asyncio.to_thread(call_command, "task_worker", *arguments)
    assert message in str(caught.value)


async def test_the_row_says_where_it_was_sent(arq: Any, redis: ArqRedis) -> None:
    """To this backend, for the first time."""
    handle = await adds().aenqueue(a=1, b=1)
    await until_queued(redis, 1)
    row = await TaskExecution.objects.aget(id=handle.id)
    assert (row.dispatched_to, row.dispatches) == ("arq", 1)
    assert row.dispatched_at is not None


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
async def command(
    arq: Any, server: RedisServer
) -> AsyncIterator[Callable[..., Awaitable[asyncio.subprocess.Process]]]:
    """Starts `manage.py task_worker` on the test's database."""
    started = []

    async def start(
        *arguments: str, database: str | None = None, **pipes: Any
    ) -> asyncio.subprocess.Process:
        settings = {"backend": "arq", "redis_url": server.url, "bus": "memory", "drain_seconds": 1}
        database = database or connection.settings_dict["NAME"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "django", "task_worker", *arguments,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "DJANGO_SETTINGS_MODULE": "tests.backends.settings",
                "TEST_DATABASE": "sqlite",
                "TEST_DATABASE_URL": f"sqlite:///{database}",
                "ACCEPTANCE_TASK_SETTINGS": json.dumps(settings),
            },
            stderr=asyncio.subprocess.PIPE,
            **pipes,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_worker_on_a_database_without_tables_says_what_to_do(
    command: Any, tmp_path: Path
) -> None:
    """As `runserver` does."""
    pipe = asyncio.subprocess.PIPE
    process = await command(database=tmp_path / "empty.sqlite3", stdout=pipe)
    said = (await asyncio.wait_for(process.stdout.readuntil(b"Serving"), TIMEOUT)).decode()
    assert "rail_async_tasks" in said
    assert "manage.py migrate" in said


async def test_a_worker_that_gets_a_signal_to_stop(command: Any, redis: ArqRedis) -> None:
    """It takes no more, hands back what does not end in `drain_seconds`, and ends in that time."""
    row = await _left_behind("backends.linger")
    process = await command()

    async def status() -> str:
        return (await TaskExecution.objects.aget(id=row.id)).status

    async def running() -> bool:
        return await status() == "running"

    await eventually(running)
    process.send_signal(signal.SIGTERM)
    late = await _left_behind("backends.add", a=1, b=1)
    # One that did not end in time would end itself, with another code.
    _, errors = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert process.returncode == 0, errors.decode()
    await row.arefresh_from_db()
    assert (row.status, row.retry_count, row.crashes) == ("retrying", 0, 0)
    await late.arefresh_from_db()
    assert late.status == "pending"
    assert not [key for key in await keys(redis) if str(row.id) in key]
    assert b"Traceback" not in errors


async def test_a_burst_of_one_queue(command: Any) -> None:
    """The others' tasks are left to their own workers."""
    mine = await _left_behind("backends.add", a=1, b=2)
    other = await _left_behind("backends.add", "low", a=1, b=2)
    process = await command("--queue", "default", "--concurrency", "2", "--burst")
    _, errors = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert process.returncode == 0, errors.decode()
    await mine.arefresh_from_db()
    await other.arefresh_from_db()
    assert (mine.status, mine.result, other.status) == ("completed", 3, "pending")
    assert b"Traceback" not in errors


# --- pauses ---------------------------------------------------------------------------------------


async def test_a_paused_queue(arq: Any, redis: ArqRedis) -> None:
    """Ids that are in Redis already are handed back at no cost; new ones are not sent."""
    add = adds()
    sent = [await add.aenqueue(a=n, b=1) for n in range(3)]
    await until_queued(redis, 3)
    await queues.apause("default")
    later = await add.aenqueue(a=3, b=1)
    async with working():
        await until_empty(redis)  # the worker has taken all, and run none
        other = add.using(queue="high")
        assert (await final(await other.aenqueue(a=4, b=1))).result == 5
        assert await asked(redis, "ZCARD", DEFAULT) == 0
        async for row in TaskExecution.objects.filter(queue="default"):
            state = (row.status, row.attempts, row.retry_count, row.crashes, row.dispatched_at)
            assert state == ("pending", 0, 0, 0, None)
        await queues.aresume("default")
        results = [(await final(it)).result for it in [*sent, later]]
    assert results == [1, 2, 3, 4]
