"""A runtime that one of its own parts has broken: the log says how, and what it ran goes on."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rail_async_tasks import task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.states import UNFINISHED
from tests.support.runtimes import Configure, on_databases
from tests.support.waiting import eventually

pytestmark = [on_databases, pytest.mark.usefixtures("ends_cleanly")]


async def test_the_log_says_how_a_runtime_broke(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the traceback; nothing is said of a server, and what it ran is for others to run."""
    configure()
    begun = asyncio.Event()

    @task(name="broken.wait")
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    runtime = await host.aruntime()
    runtime.state.under_server = True

    handle = await wait.aenqueue()
    await begun.wait()
    with caplog.at_level(logging.WARNING):
        runtime.broke("of a part", ValueError("a part is worn out"))
        await eventually(lambda: not runtime.alive)
    critical = [it for it in caplog.records if it.levelno == logging.CRITICAL]
    assert [it.getMessage() for it in critical] == [
        "The runtime broke. What it ran goes on elsewhere"
    ]
    assert "a part is worn out" in caplog.text
    row = await TaskExecution.objects.aget(id=handle.id)
    assert (row.status in UNFINISHED, row.retry_count) == (True, 0)
    runtimes = TaskRuntime.objects.filter(id=runtime.id)
    assert [it.dead async for it in runtimes] == [True]  # no process waits for its lease
    assert isinstance(runtime.state.host.exception(), BaseExceptionGroup)  # type: ignore[union-attr]
    await row.adelete()
