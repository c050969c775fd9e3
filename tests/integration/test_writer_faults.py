"""A database that fails in the middle of load: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, closing
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connections, transaction

from rail_async_tasks import safe_logging, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.db_connections import DriverCursor, dedicated_connection
from rail_async_tasks.declaration.definition import define
from rail_async_tasks.errors import BackendUnavailable
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.batch import Batch
from rail_async_tasks.ledger.records import Progress
from rail_async_tasks.ledger.sql.batch import SqlBatch
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.registry import registry
from rail_async_tasks.service import EnqueueOptions
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize(
    "database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)

runs: Counter[int] = Counter()
gate = asyncio.Event()  # a new one for each test


async def _count(info: Any, n: int) -> int:
    runs[n] += 1
    info.context.task.update_progress(n % 100)
    await asyncio.sleep(0)
    return n


async def _twice(info: Any, n: int) -> int:
    runs[n] += 1
    if info.context.task.attempt == 1:
        raise ValueError("once more")
    return n


async def _gated(n: int) -> int:
    await gate.wait()
    return n


@sync_to_async
def _read_and_write(n: int) -> None:
    with transaction.atomic():
        assert User.objects.filter(username=str(n)).count() == 0
        time.sleep(0.005)  # another process writes meanwhile
        User.objects.create(username=str(n))


async def _upgrade(n: int) -> int:
    await _read_and_write(n)
    return n


GATED = registry.register(define(_gated, name="faults.gated"))
UPGRADE = registry.register(define(_upgrade, name="faults.upgrade", max_retries=0))
COUNT = registry.register(define(_count, name="faults.count"))
TWICE = registry.register(define(_twice, name="faults.twice", retry_delay=0.0, max_retries=1))


@pytest.fixture(autouse=True)
async def running(
    database: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, anyio_backend: Any
) -> AsyncIterator[None]:
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"max_concurrency": 20}}
    runs.clear()
    monkeypatch.setattr(sys.modules[__name__], "gate", asyncio.Event())
    yield
    await host.astop()


async def start(definition: Any, n: int, **options: Any) -> TaskSnapshot:
    return await service.aenqueue(definition, {"n": n}, EnqueueOptions(**options))


async def all_final(count: int) -> list[TaskExecution]:
    """The rows, once every one of them has ended; also fails if one never does."""
    rows = TaskExecution.objects.order_by("id")
    found: list[TaskExecution] = []

    async def all_ended() -> bool:
        found[:] = await sync_to_async(lambda: list(rows.all()))()
        return len(found) == count and all(row.completed_at for row in found)

    def left() -> object:
        return [
            (row.name, row.status, row.attempts, row.run_after)
            for row in found
            if not row.completed_at
        ]

    await eventually(all_ended, left)
    return found


async def under_load(fault: Callable[[], Any], count: int = 200) -> list[TaskExecution]:
    """Creates and runs tasks from several producers while `fault` goes on in a thread."""
    broken = asyncio.ensure_future(asyncio.to_thread(fault))
    created: list[TaskSnapshot] = []

    async def produce(first: int) -> None:
        for n in range(first, count, 8):
            created.append(await start(TWICE if n % 10 == 0 else COUNT, n))

    await asyncio.gather(*map(produce, range(8)))
    await broken
    rows = await all_final(count)
    assert {row.id for row in rows} == {it.id for it in created}
    return rows


def assert_each_ran_once(rows: list[TaskExecution], count: int = 200) -> None:
    """Every body ran as often as its row says, and its row says as often as it should."""
    assert sorted(row.result for row in rows) == list(range(count))
    assert {row.status for row in rows} == {"completed"}
    assert runs == Counter({n: 2 if n % 10 == 0 else 1 for n in range(count)})
    for row in rows:
        again = 1 if row.name == "faults.twice" else 0
        assert (row.attempts, row.retry_count, row.crashes) == (1 + again, again, 0)
        assert row.seq == 3 + 2 * again
        assert row.runtime_id is None


# --- connections that break -----------------------------------------------------------------------


@on_postgres
async def test_backends_that_are_terminated_in_the_middle_of_load(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Again and again: creations are answered, outcomes stored, and the runtime goes on."""
    kills = 0

    def terminate() -> None:
        nonlocal kills
        with psycopg.connect(database.url, autocommit=True) as admin:
            for _ in range(5):
                kills += _terminate_writers(admin)

    rows = await under_load(terminate)
    assert kills
    assert_each_ran_once(rows)
    await asyncio.to_thread(safe_logging.flush, 10)
    assert "works again" in caplog.text
    assert (await _finished(await start(COUNT, 1000))).result == 1000


def _terminate_writers(admin: psycopg.Connection[Any]) -> int:
    """Ends every other connection that has written to the table; waits until there was one."""
    for _ in range(2000):
        killed = admin.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE"
            " datname = current_database() AND pid <> pg_backend_pid()"
            " AND query ~ '^\\s*(INSERT|WITH|UPDATE)\\M.*rail_async_tasks_execution'"
            " OR datname = current_database() AND pid <> pg_backend_pid() AND query = 'COMMIT'"
        ).fetchall()
        if killed:
            return len(killed)
    return 0


@on_sqlite
@pytest.mark.parametrize("timeout", [30.0, 0.1], ids=["long", "short"])
async def test_a_file_that_is_locked_for_three_seconds(
    database: Any, monkeypatch: pytest.MonkeyPatch, timeout: float
) -> None:
    """By another program: writes wait, also where SQLite says that the file is locked."""
    options = connections.settings["default"]["OPTIONS"]
    monkeypatch.setitem(options, "timeout", timeout)
    path = connections.settings["default"]["NAME"]
    locked, over = threading.Event(), threading.Event()

    def lock() -> None:
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            locked.set()
            over.wait(3 if timeout > 1 else 1)
            other.execute("ROLLBACK")

    # Some are running before the lock comes and are settled under it.
    first = await start(COUNT, 0)
    assert (await _finished(first)).result == 0
    await sync_to_async(TaskExecution.objects.all().delete)()
    runs.clear()
    assert_each_ran_once(await under_load(lock))
    assert locked.is_set()


# --- a COMMIT whose answer is lost ----------------------------------------------------------------


class LosingAnswers:
    """Makes what writers commit take effect and then report a lost connection, now and then.

    It is committed by COMMIT, or by a statement outside a transaction.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        of: Sequence[str] = ("create", "settle", "_claim"),
        every: int = 1,
        times: int = 1,
    ) -> None:
        self.every = every
        self.left = times
        self.commits = 0
        self.lost: Counter[str] = Counter()
        for name in of:
            monkeypatch.setattr(SqlBatch, name, self._losing(name))
        monkeypatch.setattr(DriverCursor, "execute", self._watching(DriverCursor.execute))
        # What a thread has written in a transaction that is open, None where none is.
        self._open = threading.local()

    def _losing(self, name: str) -> Any:
        original = getattr(SqlBatch, name)

        def call(batch: Any, *args: Any) -> Any:
            result = original(batch, *args)
            if getattr(self._open, "written", None) is not None:
                self._open.written.append(name)
            elif result:
                self._committed(name)
            return result

        return call

    def _watching(self, original: Any) -> Any:
        def execute(cursor: Any, statement: str, params: Any = None) -> None:
            original(cursor, statement, params)
            if statement.startswith("BEGIN"):
                self._open.written = []
            elif statement in ("COMMIT", "ROLLBACK"):
                written, self._open.written = self._open.written, None
                if statement == "COMMIT" and written:
                    self._committed(written[-1])

        return execute

    def _committed(self, name: str) -> None:
        self.commits += 1
        if self.left and self.commits % self.every == 0:
            self.left -= 1
            self.lost[name] += 1
            raise OperationalError("the connection was lost")


async def test_every_third_answer_is_lost(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits are found by re-reading: no row twice, no body twice, no outcome lost."""
    losing = LosingAnswers(monkeypatch, every=3, times=15)
    rows = await under_load(lambda: None)
    assert losing.lost.total() >= 3
    assert_each_ran_once(rows)


async def test_a_lost_answer_to_a_creation(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller hears of the one row; with a unique key it is not taken for another's."""
    for n, options in enumerate(({}, {"unique_key": "k"}, {"delay": 3600}), 1):
        with monkeypatch.context() as patch:
            losing = LosingAnswers(patch, of=["create"])
            snapshot = await start(COUNT, n, **options)
        assert losing.lost.total() == 1
        assert snapshot.status == "pending"
        if "delay" not in options:
            end = await _finished(snapshot)
            assert (end.result, end.attempts) == (n, 1)
        assert runs[n] == (0 if "delay" in options else 1)
        await host.astop()
    assert await sync_to_async(TaskExecution.objects.count)() == 3


async def test_a_lost_answer_to_an_outcome(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers get the end that was stored, once."""
    losing = LosingAnswers(monkeypatch, of=["settle"])
    snapshot = await start(COUNT, 1)
    seen = [it async for it in service.watch(SYSTEM, snapshot.id)]
    assert losing.lost.total() == 1
    assert seen[-1].status == "completed"
    assert [it.is_final for it in seen].count(True) == 1
    assert seen[-1] == await service.aget(SYSTEM, snapshot.id)


async def test_a_lost_answer_to_a_claim(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that it took are found and run, once."""
    losing = LosingAnswers(monkeypatch, of=["_claim"])
    snapshots = [await start(COUNT, n, delay=0.2) for n in range(3)]
    ends = [await _finished(snapshot) for snapshot in snapshots]
    assert losing.lost.total() == 1
    assert [(end.result, end.attempts) for end in ends] == [(0, 1), (1, 1), (2, 1)]
    assert runs == Counter(range(3))


async def _until_running(task: TaskSnapshot) -> None:
    async with asyncio.timeout(TIMEOUT), aclosing(service.watch(SYSTEM, task.id)) as snapshots:
        async for snapshot in snapshots:
            if snapshot.status == "running":
                return


async def _finished(task: TaskSnapshot) -> TaskSnapshot:
    async with asyncio.timeout(TIMEOUT):
        return [snapshot async for snapshot in service.watch(SYSTEM, task.id)][-1]


async def test_an_interface_error_is_a_lost_connection_too(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As drivers say it when the connection was closed under them."""
    fail = [InterfaceError("connection already closed"), OperationalError("server closed")]
    original = Batch.create

    def create(self: Any, cursor: Any, rows: Any) -> Any:
        if fail:
            raise fail.pop()
        return original(self, cursor, rows)

    monkeypatch.setattr(Batch, "create", create)
    snapshot = await start(COUNT, 1)
    assert not fail
    assert (await _finished(snapshot)).result == 1


# --- rows that another transaction has locked ----------------------------------------------------


@on_postgres
async def test_a_locked_row_holds_up_itself_alone(database: Any) -> None:
    """Its neighbours end; it ends once its row is free, by the same attempt."""
    held = await start(GATED, 0)
    await _until_running(held)
    with psycopg.connect(database.url) as other:
        other.execute(
            "SELECT 1 FROM rail_async_tasks_execution WHERE id = %s FOR UPDATE", [held.id]
        )
        gate.set()
        neighbours = [await start(COUNT, n) for n in range(1, 101)]
        ends = [await _finished(task) for task in neighbours]
        assert [end.result for end in ends] == list(range(1, 101))
        assert (await service.aget(SYSTEM, held.id)).status == "running"
        other.rollback()
    end = await _finished(held)
    assert (end.status, end.result, end.attempts, end.seq) == ("completed", 0, 1, 3)


@on_postgres
async def test_progress_on_a_locked_row_is_left_out(database: Any) -> None:
    """It does not wait: the next progress is kept, and so is the outcome."""
    held = await start(GATED, 0)
    await _until_running(held)
    runtime = host.current()
    assert runtime is not None
    # The row is running from its commit on; the attempt, from the answer to that.
    await eventually(lambda: held.id in runtime.attempts)
    attempt = runtime.attempts[held.id]
    with psycopg.connect(database.url) as other:
        other.execute(
            "SELECT 1 FROM rail_async_tasks_execution WHERE id = %s FOR UPDATE", [held.id]
        )
        runtime.ledger.progress(Progress(held.id, attempt.token, 40, "locked out", 1))
        assert (await _finished(await start(COUNT, 1))).result == 1
        (row,) = await runtime.ledger.reread([held.id])
        assert (row.progress, row.progress_message) == (0, None)
        other.rollback()
    runtime.ledger.progress(Progress(held.id, attempt.token, 60, "kept", 2))
    (row,) = await runtime.ledger.reread([held.id])
    assert (row.progress, row.progress_message) == (60, "kept")
    gate.set()
    assert (await _finished(held)).result == 0


# --- timeouts -------------------------------------------------------------------------------------


@on_sqlite
async def test_a_caller_is_answered_in_time_and_the_row_is_not_lost(
    database: Any, timings: Timings
) -> None:
    """A start that waits too long for a locked file is refused; what was written meanwhile runs."""
    timings.set("creations", timeout=1.5)
    path = connections.settings["default"]["NAME"]
    assert (await _finished(await start(COUNT, 0))).result == 0
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        # The file is locked until the answer has come.
        async with asyncio.timeout(TIMEOUT):
            with pytest.raises(BackendUnavailable, match="could not be stored"):
                await start(COUNT, 1)
        other.execute("ROLLBACK")
    rows = await all_final(2)
    assert [row.result for row in rows] == [0, 1]


@on_sqlite
async def test_a_body_that_reads_and_then_writes_waits_for_the_lock(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transactions begin IMMEDIATE, also on a database with Django's default options."""
    monkeypatch.delitem(connections.settings["default"]["OPTIONS"], "transaction_mode")
    tasks = [await start(UPGRADE, n) for n in range(20)]
    ends = [await _finished(task) for task in tasks]
    assert [(end.status, end.error) for end in ends] == [("completed", None)] * 20


# --- waits of our own connections -----------------------------------------------------------------


@on_postgres
def test_our_connections_wait_no_longer_than_the_lease(database: Any, settings: Any) -> None:
    """For a lock, a statement or a server; what the project has set itself stays."""
    settings.RAIL_DJANGO_GRAPHQL = {"task_settings": {"lease_seconds": 8}}
    names = ["lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"]

    def shown(**options: Any) -> list[str]:
        config = connections.settings["default"]
        before = config["OPTIONS"]
        config["OPTIONS"] = {**before, **options}
        try:
            connection = dedicated_connection("default")
            with connection.cursor() as cursor:
                found = []
                for name in names:
                    cursor.execute(f"SHOW {name}")
                    found.append(cursor.fetchone()[0])
            return found
        finally:
            config["OPTIONS"] = before
            connections["default"].close()
            del connections["default"]

    assert shown() == ["4s", "4s", "4s"]
    assert shown(options="-c statement_timeout=9s") == ["4s", "9s", "4s"]


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_a_database_that_is_read_only_for_a_while(database: Any) -> None:
    """A failover: what has ended meanwhile is stored in the end, and does not run twice."""
    begun: list[int] = []
    go = asyncio.Event()

    @task(name="faults.once", rerun_on_crash=False, max_retries=0)
    async def once(info: Any) -> str:
        begun.append(info.context.task.attempt)
        await go.wait()
        return "done"

    def read_only(on: bool) -> None:
        name = database.url.rpartition("/")[2]
        with psycopg.connect(database.url, autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {on}")
            admin.execute(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    def close_old() -> None:
        connections["default"].close()

    handles = [await once.aenqueue() for _ in range(5)]
    await eventually(lambda: len(begun) == 5)
    await asyncio.to_thread(read_only, on=True)
    try:
        go.set()
        await asyncio.sleep(2.5)  # several tries, and two looks for rows that no attempt holds
    finally:
        await asyncio.to_thread(read_only, on=False)
        await sync_to_async(close_old)()  # this thread's own was ended, too
    for handle in handles:
        assert await handle.aresult(TIMEOUT) == "done"
        row = await TaskExecution.objects.aget(id=handle.id)
        assert (row.attempts, row.crashes, row.retry_count) == (1, 0, 0)
    assert begun == [1] * 5


@on_postgres
def test_a_connection_that_is_replaced_again_and_again(database: Any) -> None:
    """Its options do not grow: the server refuses what is longer than 10,000 bytes."""

    def options() -> str:
        connection = dedicated_connection("default")
        found = str(connection.settings_dict["OPTIONS"]["options"])
        connection.close()
        return found

    try:
        first = options()
        assert {options() for _ in range(300)} == {first}
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connections["default"].close()
        del connections["default"]
