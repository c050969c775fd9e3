"""Two runtimes on one PostgreSQL wake each other; where that fails, surveys find the rows."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection

from rail_async_tasks import Task, TaskHandle, queues, task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting.stored import storing
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.orm import notices
from rail_async_tasks.ledger.orm.threads import WriterThreads
from rail_async_tasks.runtime.notices import HEARD_POLL
from rail_async_tasks.runtime.runtime import Runtime
from tests.support.runtimes import Configure, other_process
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually

pytestmark = [
    pytest.mark.usefixtures("ends_cleanly"),
    pytest.mark.postgres,
    pytest.mark.parametrize("store", ["postgres"], indirect=True),
]

NEVER = 3600.0


async def stored(waits: Task) -> TaskHandle[Any]:
    """An execution as a command leaves it, whose process runs nothing."""

    def enqueue() -> TaskHandle[Any]:
        with storing():
            return waits.enqueue()

    return await sync_to_async(enqueue)()


async def ended(handle: TaskHandle[Any]) -> str:
    """Returns the final status, read from the row: no bus brings it from the other process."""

    async def status() -> str:
        return (await handle.arefresh()).status

    await eventually(lambda: is_final(status))
    return await status()


async def is_final(status: Callable[[], Awaitable[str]]) -> bool:
    return await status() not in ("pending", "running", "retrying")


def terminate_listeners() -> None:
    """Ends the connections that listen, from the server's side."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        assert cursor.rowcount >= 1


def declared() -> tuple[Task, asyncio.Event]:
    """A task that waits for the event."""
    go_on = asyncio.Event()

    @task(name="notices.waits")
    async def waits() -> str:
        await go_on.wait()
        return "done"

    return waits, go_on


def without_surveys(runtime: Runtime) -> None:
    """Leaves the runtime with notices alone."""
    due = runtime.services.due
    due._poll_seconds = due._pause = NEVER
    due._poll_at = runtime.loop.time() + NEVER


async def hearing(runtimes: AsyncExitStack, **options: Any) -> Runtime:
    """One more process, which hears notices, and has made its first survey."""
    runtime = await other_process(runtimes, **options)
    await eventually(lambda: heard(runtime))
    without_surveys(runtime)
    return runtime


def heard(runtime: Runtime) -> bool:
    return runtime.services.notices.longest_poll() == HEARD_POLL


async def test_what_one_process_has_no_slot_for_starts_in_another(
    store: str, configure: Configure, runtimes: AsyncExitStack
) -> None:
    """By the notice: the other one makes no survey of its own."""
    configure(max_concurrency=1)
    waits, go_on = declared()
    mine = await host.aruntime()
    other = await hearing(runtimes)
    await eventually(lambda: not mine.services.leasing.alone)
    handles = [await waits.aenqueue() for _ in range(2)]
    await eventually(lambda: len(other.attempts) == 1)
    go_on.set()
    for handle in handles:
        assert await ended(handle) == "completed"


async def test_what_a_command_has_stored_starts_at_once(
    store: str, configure: Configure, runtimes: AsyncExitStack
) -> None:
    """A process without a runtime announces its rows as they commit."""
    waits, go_on = declared()
    go_on.set()
    await hearing(runtimes)

    handle = await stored(waits)
    assert await ended(handle) == "completed"


async def test_a_notice_that_is_lost_costs_time_alone(
    store: str, configure: Configure, runtimes: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next survey finds the row."""
    waits, go_on = declared()
    go_on.set()
    other = await other_process(runtimes)
    await eventually(lambda: heard(other))
    monkeypatch.setattr(notices.PostgresNotices, "_take", lambda *_: None)

    handle = await stored(waits)
    assert await ended(handle) == "completed"


async def test_a_listener_whose_connection_dies_listens_again(
    store: str, configure: Configure, runtimes: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has the ledger surveyed, as it may have missed something."""
    other = await hearing(runtimes)
    opened: list[str] = []

    def open_anew(alias: str) -> Any:
        opened.append(alias)
        return open_listener(alias)

    monkeypatch.setattr(notices, "_open", open_anew)

    def kill() -> None:
        terminate_listeners()
        connection.close()

    await sync_to_async(kill)()
    await eventually(lambda: opened and heard(other))
    waits, go_on = declared()
    go_on.set()

    assert await ended(await stored(waits)) == "completed"


async def test_a_cancel_of_another_process_is_heeded_without_a_bus(
    store: str, configure: Configure, runtimes: AsyncExitStack, timings: Timings
) -> None:
    """The other process re-reads its rows at once, and not in its next round."""
    timings.set("reconciler", interval=NEVER)
    waits, _ = declared()
    other = await hearing(runtimes, timings=timings.value)

    handle = await stored(waits)
    await eventually(lambda: len(other.attempts) == 1)
    await handle.acancel()
    assert await ended(handle) == "cancelled"


async def test_a_resume_of_another_process_is_heeded_without_a_bus(
    store: str, configure: Configure, runtimes: AsyncExitStack, timings: Timings
) -> None:
    """What waited starts by the notice alone."""
    timings.set("reconciler", interval=NEVER)
    waits, go_on = declared()
    go_on.set()
    await queues.apause("default")
    other = await hearing(runtimes, timings=timings.value)

    handle = await stored(waits)
    await eventually(lambda: "default" in other.slots.paused)
    await handle.arefresh()
    assert handle.status == "pending"
    await queues.aresume("default")
    assert await ended(handle) == "completed"


def deaf(alias: str) -> Any:
    """Opens the connection as a pooler of transactions leaves it: its session has been given on."""
    opened = open_listener(alias)
    opened.execute("UNLISTEN *")
    return opened


open_listener, notify = notices._open, notices.notify


@pytest.mark.parametrize("fails", [True, False], ids=["the probe fails too", "it is lost"])
async def test_a_connection_that_dies_during_the_probe(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, fails: bool,
) -> None:  # fmt: skip
    """It is opened again: nothing is taken for a pooler, which would be deaf for minutes."""
    probes, noticed, read = 0, threading.Event(), notices.PostgresNotices._read

    def read_and_tell(*args: Any) -> None:
        read(*args)
        noticed.set()

    def send(*args: Any) -> None:
        nonlocal probes
        probes += 1
        if probes > 1:
            notify(*args)
            return
        terminate_listeners()
        if fails:
            assert noticed.wait(TIMEOUT)  # first the loop learns of the connection's end
            raise OperationalError("terminated")

    monkeypatch.setattr(notices, "notify", send)
    monkeypatch.setattr(notices.PostgresNotices, "_read", read_and_tell)
    threads = WriterThreads("default", options=LedgerOptions)
    threads.start()
    listener = notices.PostgresNotices(
        "default", threads=threads, probe_timeout=TIMEOUT, deaf_pause=NEVER
    )
    caplog.set_level("INFO", "rail_async_tasks.ledger")
    running = asyncio.create_task(listener.run(lambda notice, execution_id: None))
    await eventually(lambda: listener.heard)
    assert "pooler" not in caplog.text
    assert probes == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await threads.stop()


async def test_behind_a_pooler_of_transactions_nothing_is_heard(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The probe is lost; that is found out, logged, and tried again later."""
    monkeypatch.setattr(notices, "_open", deaf)
    threads = WriterThreads("default", options=LedgerOptions)
    threads.start()
    listener = notices.PostgresNotices(
        "default", threads=threads, probe_timeout=0.05, deaf_pause=0.05
    )
    caplog.set_level("INFO", "rail_async_tasks.ledger")
    running = asyncio.create_task(listener.run(lambda notice, execution_id: None))
    await eventually(lambda: caplog.text.count("behind a pooler of transactions") >= 2)
    assert not listener.heard
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await threads.stop()


async def test_where_the_project_names_a_pooler_no_connection_is_opened(
    store: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`DISABLE_SERVER_SIDE_CURSORS` is Django's word for it."""
    opened: list[str] = []
    monkeypatch.setattr(notices, "_open", opened.append)
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    threads = WriterThreads("default", options=LedgerOptions)
    listener = notices.PostgresNotices("default", threads=threads)
    await listener.run(lambda notice, execution_id: None)
    assert (opened, listener.heard) == ([], False)
