"""Cancels that do not come from the runtime, and a stop in the middle of creations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rail_async_tasks import task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.runtime.attempts.body_tasks import BodyTasks
from tests.support.runtimes import Configure, in_memory, on_databases
from tests.support.waiting import final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]


def current_task() -> asyncio.Task[Any]:
    running = asyncio.current_task()
    assert running is not None
    return running


@in_memory
async def test_a_cancel_that_a_body_leaves_behind_stays_its_own(configure: Configure) -> None:
    """The body has returned: its task completes, and the runtime goes on."""
    configure()

    @task(name="t.leaves_a_cancel")
    async def leaves_a_cancel() -> str:
        current_task().cancel()
        return "done"

    @task(name="t.after_the_cancel")
    async def after() -> str:
        await asyncio.sleep(0.05)
        return "ran"

    await final(await after.aenqueue())
    runtime = host.current()
    assert runtime is not None
    assert (await final(await leaves_a_cancel.aenqueue())).result == "done"
    snapshot = await final(await after.aenqueue())
    assert (snapshot.result, snapshot.attempts) == ("ran", 1)
    assert host.current() is runtime
    assert not runtime.draining


@in_memory
async def test_a_cancel_before_the_first_step_ends_the_attempt(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that cancels every task of the loop hits bodies that have not begun, too."""
    configure()
    start = BodyTasks.start

    def start_and_cancel(self: BodyTasks, *args: Any) -> None:
        start(self, *args)
        for it in asyncio.all_tasks():
            if it.get_name() == "t.is_cancelled_unstarted":
                it.cancel()

    monkeypatch.setattr(BodyTasks, "start", start_and_cancel)

    @task(name="t.is_cancelled_unstarted", max_retries=0)
    async def is_cancelled_unstarted() -> None: ...

    snapshot = await final(await is_cancelled_unstarted.aenqueue())
    assert (snapshot.status, snapshot.error_code) == ("failed", "exception")


@in_memory
async def test_a_body_that_cancels_itself_uses_up_its_retries(configure: Configure) -> None:
    """It is no hand-back, which would cost nothing and come again at once, for ever."""
    configure()

    @task(name="t.cancels_itself", max_retries=0)
    async def cancels_itself() -> None:
        current_task().cancel()
        await asyncio.sleep(0)

    snapshot = await final(await cancels_itself.aenqueue())
    assert (snapshot.status, snapshot.attempts) == ("failed", 1)


@on_databases
async def test_a_stop_among_creations_leaves_nothing_running(configure: Configure) -> None:
    """A row that was inserted as its own claim, and not begun, is handed back."""
    configure(drain_seconds=0.1)

    @task(name="t.hardly_begun")
    async def hardly_begun() -> None: ...

    await final(await hardly_begun.aenqueue())
    creations = [asyncio.ensure_future(hardly_begun.aenqueue()) for _ in range(50)]
    await asyncio.sleep(0)  # each has handed its row to the writer
    await host.astop()
    handles = await asyncio.gather(*creations)
    states = {(await handle.arefresh()).status for handle in handles}
    assert "running" not in states
