"""Whole lives of tasks on MariaDB, by the portable ledger path."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connections

from rail_async_tasks import service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution, TaskSchedule
from tests.services.mariadb import MariaServer
from tests.support.runtimes import Configure, other_process
from tests.support.waiting import eventually, final, until_status

on_mariadb = pytest.param("mariadb", marks=pytest.mark.mariadb)
pytestmark = [
    pytest.mark.parametrize("store", [on_mariadb], indirect=True),
    pytest.mark.usefixtures("ends_cleanly"),
]


async def test_success_and_progress(store: str, configure: Configure) -> None:
    """Arguments, progress and result come through, in any script."""

    @task(name="maria.echo")
    async def echo(info: Any, text: str) -> dict[str, str]:
        info.context.task.update_progress(40, "half way ☕")
        return {"text": text}

    handle = await echo.aenqueue(text="grüße 😀 \\ ' %s")
    snapshot = await final(handle)
    assert (snapshot.status, snapshot.progress) == ("completed", 100)
    assert snapshot.result == {"text": "grüße 😀 \\ ' %s"}
    assert abs(snapshot.created_at - datetime.now(UTC)) < timedelta(seconds=30)


async def test_a_retry_and_a_failure(store: str, configure: Configure) -> None:
    """Each attempt counts; what is left of the last one is its error."""

    @task(name="maria.fails", max_retries=2)
    async def fails(info: Any, good: int) -> int:
        if info.context.task.attempt < good:
            raise ValueError("not yet")
        return int(info.context.task.attempt)

    second = await final(await fails.aenqueue(good=2))
    assert (second.status, second.result, second.retry_count) == ("completed", 2, 1)
    never = await final(await fails.aenqueue(good=9))
    assert (never.status, never.error_code, never.attempts) == ("failed", "exception", 3)


async def test_cancels(store: str, configure: Configure) -> None:
    """Of what runs and of what waits."""

    @task(name="maria.sleeps")
    async def sleeps() -> None:
        await asyncio.Event().wait()

    running = await sleeps.aenqueue()
    await until_status(running, "running")
    waiting = await sleeps.using(delay=3600).aenqueue()
    for handle in (running, waiting):
        await service.acancel(SYSTEM, handle.id)
        snapshot = await final(handle)
        assert (snapshot.status, snapshot.error_code) == ("cancelled", "cancelled")
        assert snapshot.completed_at is not None
    assert (await waiting.arefresh()).snapshot.attempts == 0


async def test_a_delay(store: str, configure: Configure) -> None:
    """By the database's clock, whatever its time zone."""

    @task(name="maria.later")
    async def later() -> None: ...

    began = time.monotonic()
    snapshot = await final(await later.using(delay=0.5).aenqueue())
    assert time.monotonic() - began > 0.49
    assert snapshot.status == "completed"


async def test_an_orphan_runs_again(
    store: str, configure: Configure, runtimes: AsyncExitStack
) -> None:
    """Once, though two processes look for it."""
    configure(lease_seconds=2.0)

    @task(name="maria.orphan")
    async def noop() -> str:
        return "done"

    handles = [await noop.using(delay=3600).aenqueue() for _ in range(10)]
    await TaskExecution.objects.aupdate(
        status="running", runtime_id=new_id(), token=new_id(), attempts=1, seq=2, run_after=None
    )
    for _ in range(2):
        await other_process(runtimes)
    for handle in handles:
        await final(handle)
    await runtimes.aclose()
    async for row in TaskExecution.objects.all():
        assert (row.status, row.crashes, row.attempts, row.seq) == ("completed", 1, 2, 5)


async def test_a_tick_is_had_once(
    store: str, configure: Configure, runtimes: AsyncExitStack
) -> None:
    """One that was missed while all were down, by one of three processes."""

    @task(name="maria.yearly", cron="0 0 1 1 *", catch_up=True)
    async def yearly() -> None: ...

    long_ago = datetime(2020, 6, 1, tzinfo=UTC)
    await TaskSchedule.objects.acreate(name="maria.yearly", last_tick=long_ago)
    for _ in range(3):
        await other_process(runtimes)
    await eventually(lambda: service.alist(SYSTEM, status="completed"))
    await runtimes.aclose()
    assert len(await service.alist(SYSTEM)) == 1


async def test_the_answer_to_every_third_commit_is_lost(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost answer's write is found: each task runs once, and has one outcome."""
    configure(audit_enabled=True)
    runs: Counter[int] = Counter()
    commits = 0
    wrappers: Any = type(connections["default"])
    original = wrappers._commit

    def commit(wrapper: Any) -> None:
        nonlocal commits
        original(wrapper)
        if threading.current_thread().name.startswith("rail-tasks-"):
            commits += 1
            if commits % 3 == 0:
                wrapper.connection._force_close()
                raise OperationalError(2013, "Lost connection to MySQL server during query")

    @task(name="maria.counts")
    async def counts(n: int) -> int:
        runs[n] += 1
        return n

    monkeypatch.setattr(wrappers, "_commit", commit)
    handles = [await counts.aenqueue(n=n) for n in range(20)]
    for n, handle in enumerate(handles):
        snapshot = await final(handle)
        assert (snapshot.status, snapshot.result, snapshot.attempts) == ("completed", n, 1)
    assert set(runs.values()) == {1}
    assert commits >= 9


async def test_connections_that_are_killed_under_load(
    store: str, configure: Configure, mariadb_server: MariaServer
) -> None:
    """They are opened anew; no task is lost, and none runs twice."""
    runs: Counter[int] = Counter()

    @task(name="maria.under_load")
    async def under_load(n: int) -> int:
        runs[n] += 1
        await asyncio.sleep(0.001)
        return n

    ended = threading.Event()
    kills = 0

    def kill() -> None:
        nonlocal kills
        with closing(mariadb_server.connect()) as admin, admin.cursor() as cursor:
            while not ended.wait(0.8):
                cursor.execute("SELECT id FROM information_schema.processlist WHERE db = 'suite'")
                for (number,) in cursor.fetchall():
                    kills += 1
                    try:
                        cursor.execute(f"KILL {number}")
                    except Exception:  # noqa: BLE001 - it was gone before
                        kills -= 1

    killer = threading.Thread(target=kill)
    handles = [await under_load.aenqueue(n=-1)]
    await final(handles[0])
    killer.start()
    try:
        async with asyncio.timeout(60):
            while kills < 6:
                crowd = range(len(handles), len(handles) + 50)
                handles += await asyncio.gather(*(under_load.aenqueue(n=n) for n in crowd))
    finally:
        ended.set()
        killer.join()
    await sync_to_async(connections.close_all)()  # the reader's own was killed too
    for handle in handles:
        assert (await final(handle)).status == "completed"
    assert set(runs.values()) == {1}
    assert kills >= 6
