"""What a body leaves behind in its task, on the loop or in its thread harms no other body."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from rail_async_tasks import task
from rail_async_tasks.runtime import host
from tests.integration import rubbish
from tests.integration.conftest import Configure, in_memory
from tests.integration.waiting import final

# asyncio's own words on what a body has left behind.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
async def own_loop(configure: Configure) -> AsyncIterator[None]:
    """The runtime's loop is the test's; both end in order, whatever bodies have done to them."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda loop, context: None)
    try:
        yield
        await asyncio.wait_for(host.astop(), 20)
        await rubbish.clear_away()
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(handler)
        loop._executor_shutdown_called = False  # type: ignore[attr-defined]
        loop._default_executor = None  # type: ignore[attr-defined]


def statistics() -> dict[str, int]:
    runtime = host.current()
    assert runtime is not None
    return {key: runtime.statistics()[key] for key in ("running", "leaked", "unsettled")}


NOTHING = {"running": 0, "leaked": 0, "unsettled": 0}


@in_memory
@pytest.mark.usefixtures("own_loop", "loop_kind")
@pytest.mark.parametrize("leave", rubbish.ASYNC, ids=lambda it: it.__name__)
async def test_what_a_body_leaves_behind_hits_no_other(
    configure: Configure, leave: Callable[[], Awaitable[Any]]
) -> None:
    """Bodies that run before, while and after it fires complete at their first attempt."""
    configure(max_concurrency=3)
    fired = asyncio.Event()

    @task(name="l.leaves", max_retries=0)
    async def leaves() -> None:
        await leave()

    @task(name="l.innocent")
    async def innocent() -> str:
        await fired.wait()
        await asyncio.sleep(0)
        return rubbish.variable.get()

    handle = await leaves.aenqueue()
    assert (await final(handle)).status == "completed"
    runtime = host.current()
    handles = [await innocent.aenqueue() for _ in range(6)]
    asyncio.get_running_loop().call_later(rubbish.DEADLINE * 2, fired.set)
    ends = [await final(handle) for handle in handles]
    assert {(it.status, it.result, it.attempts) for it in ends} == {("completed", "clean", 1)}
    assert host.current() is runtime
    assert statistics() == NOTHING
