"""One schedule that fails, and parts of the runtime that do: all others go on."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.test import AsyncClient

from rail_async_tasks import task
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.hosting import process as host
from rail_async_tasks.runtime.claims.local_dispatcher import ClaimsDue
from rail_async_tasks.runtime.creations import Creations
from rail_async_tasks.runtime.upkeep.cancels import CancelReader
from rail_async_tasks.runtime.upkeep.cleanup import Cleaner
from rail_async_tasks.runtime.upkeep.reconciler import Reconciler
from rail_async_tasks.runtime.upkeep.scheduler import Scheduler
from rail_async_tasks.runtime.upkeep.watched import WatchedReader
from tests.integration.test_cron import EveryHalfSecond
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

READY = "/tasks/health/ready"
runs: Counter[str] = Counter()


class Often(EveryHalfSecond):
    """A tick every twentieth of a second."""

    STEP = 0.05

    def after(self, moment: datetime) -> datetime:
        return datetime.fromtimestamp((moment.timestamp() // self.STEP + 1) * self.STEP, UTC)

    def latest(self, moment: datetime) -> datetime:
        return self.after(moment) - timedelta(seconds=self.STEP)


@pytest.fixture(autouse=True)
async def quick(timings: Timings) -> AsyncIterator[None]:
    """Schedules tick all the time, and nothing waits for long after a failure."""
    timings.set("scheduler", ticks_of=Often, failure_pause=0.02)
    runs.clear()
    yield
    await host.astop()


def declare(name: str, **options: Any) -> None:
    @task(name=name, cron="* * * * *", **options)
    async def counted(secret: str = "hunter2") -> None:
        runs[name] += 1


async def more(name: str, times: int = 2) -> None:
    """Returns when the task has run so many times from now on."""
    enough = runs[name] + times
    await eventually(lambda: runs[name] >= enough)


def lines(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """The ERROR lines that name the task."""
    return [
        it.getMessage() for it in caplog.records
        if it.levelno == logging.ERROR and name in it.getMessage()
    ]  # fmt: skip


@on_databases
async def test_a_schedule_that_can_not_start_its_task(
    configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log with its remedy, and by `ready`; it runs once that is mended."""
    declare("cron.sealed", unique=True, sensitive=["secret"])
    declare("cron.well")
    runtime = await host.aruntime()
    await eventually(lambda: len(lines(caplog, "cron.sealed")) >= 2)  # tried again
    await more("cron.well")
    assert runtime.alive
    assert 'set task_settings["encryption_keys"]' in lines(caplog, "cron.sealed")[0]
    assert lines(caplog, "cron.well") == []
    response = await AsyncClient().get(READY)
    assert response.status_code == 200
    assert response.json()["warnings"]["schedules"] == "failing: cron.sealed"
    configure(encryption_keys=[Fernet.generate_key().decode()])
    await more("cron.sealed")
    assert "schedules" not in (await AsyncClient().get(READY)).json().get("warnings", {})


class Wrong(Exception):
    """An error of a kind that no code expects."""


@in_memory
@pytest.mark.parametrize(
    ("what", "error"),
    [
        *((it, Wrong) for it in ("encode", "stored", "tick", "after", "arrived", "schedule")),
        ("encode", SystemExit),  # a default value's own code
        ("encode", asyncio.CancelledError),
    ],
)
async def test_any_error_of_a_schedule_is_its_own(
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
    error: type[BaseException],
) -> None:
    """Wherever on the way from the tick to the row it comes from; the next tick is tried."""
    declare("cron.bad")
    declare("cron.well")
    broken = True

    def breaks(owner: Any, name: str, is_bad: Any) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **keywords: Any) -> Any:
            if broken and is_bad(args):
                raise error("on purpose")
            return original(*args, **keywords)

        monkeypatch.setattr(owner, name, call)

    ledger = type(host.ledger())
    match what:
        case "encode" | "stored":
            breaks(TaskDefinition, what, lambda args: args[0].name == "cron.bad")
        case "tick" | "schedule":
            breaks(ledger, what, lambda args: args[1] == "cron.bad")
        case "after":
            current = asyncio.current_task
            breaks(Often, "after", lambda _: current().get_name() == "cron cron.bad")  # type: ignore[union-attr]
        case "arrived":
            breaks(Creations, "arrived", lambda args: args[1].name == "cron.bad")
    runtime = await host.aruntime()
    await eventually(lambda: len(lines(caplog, "cron.bad")) >= 2)
    await more("cron.well")
    assert runtime.alive
    assert runtime.failing_schedules == ["cron.bad"]
    named = "on purpose" if error is Wrong else f"The start raised {error.__name__}."
    assert named in lines(caplog, "cron.bad")[0]
    broken = False
    await more("cron.bad")
    await eventually(lambda: runtime.failing_schedules == [])


@pytest.mark.parametrize(
    ("part", "method", "store"),
    [
        (ClaimsDue, "until_needed", "memory"),
        (Reconciler, "run", "memory"),
        (CancelReader, "run", "sqlite"),  # in memory no other process could ask
        (Cleaner, "_pause", "memory"),
        (Scheduler, "run", "memory"),
    ],
    indirect=["store"],
)
async def test_a_part_of_the_runtime_that_fails_is_started_again(
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    timings: Timings,
    caplog: pytest.LogCaptureFixture,
    part: type,
    method: str,
) -> None:
    """With a traceback in the log; the runtime lives, and does what it did."""
    timings.set("reconciler", interval=0.01)
    declare("cron.well")
    left = 2
    original = getattr(part, method)

    async def fails_at_first(*args: Any, **keywords: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise Wrong("on purpose")
        return await original(*args, **keywords)

    monkeypatch.setattr(part, method, fails_at_first)
    runtime = await host.aruntime()
    await eventually(lambda: left == 0)
    await more("cron.well", 5)
    assert runtime.alive


@on_databases
async def test_a_look_that_fails_keeps_none_of_the_others(
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    timings: Timings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And is logged once, not every time."""
    timings.set("reconciler", interval=0.01, queues_every=1)
    asked = 0

    async def reread(*args: Any) -> None:
        raise Wrong("on purpose")

    async def queues() -> list[str]:
        nonlocal asked
        asked += 1
        return []

    monkeypatch.setattr(WatchedReader, "read_tasks", reread)
    monkeypatch.setattr(host.ledger(), "queues", queues)
    await host.aruntime()
    await eventually(lambda: asked >= 20, timeout=TIMEOUT)
    failed = "Reading watched tasks from the database failed"
    logged = [it for it in caplog.records if failed in it.getMessage()]
    assert len(logged) == 1
    assert "on purpose" in logged[0].getMessage()
