"""`error_type`: the exception's class name while an execution has failed or will be retried."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async

from rail_async_tasks import Fail, TaskHandle, queues, task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.runtimes import Configure
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]


async def stored(handle: TaskHandle) -> TaskSnapshot:
    """The row as the ledger has it."""
    ledger: Ledger = host.ledger()
    found = await sync_to_async(ledger.get)(handle.id)
    assert found is not None
    return found


async def test_it_comes_and_goes_with_the_error(store: str, configure: Configure) -> None:
    """Null while it waits first, while it runs, and once it has completed."""
    configure(retry_delay=0, retry_jitter=0)
    gates = [asyncio.Event(), asyncio.Event()]
    begun = [asyncio.Event(), asyncio.Event()]

    @task(name="type.flaky", max_retries=1)
    async def flaky(info: object) -> None:
        attempt = info.context.task.attempt - 1  # type: ignore[attr-defined]
        begun[attempt].set()
        await gates[attempt].wait()
        if attempt == 0:
            raise KeyError("no")

    handle = await flaky.aenqueue()
    await asyncio.wait_for(begun[0].wait(), TIMEOUT)
    assert (await stored(handle)).error_type is None
    await queues.apause("default")  # so that the retry waits to be looked at
    gates[0].set()

    async def retrying() -> TaskSnapshot | None:
        it = await stored(handle)
        return it if it.status == "retrying" else None

    waiting = await eventually(retrying)
    assert waiting is not None
    assert waiting.error_type == "KeyError"
    await queues.aresume("default")
    await asyncio.wait_for(begun[1].wait(), TIMEOUT)
    running = await stored(handle)
    assert (running.status, running.error_type, running.error) == ("running", None, None)
    gates[1].set()
    assert (await final(handle)).error_type is None
    assert (await stored(handle)).error_type is None


async def test_of_a_failure_and_of_a_cancel(store: str, configure: Configure) -> None:
    """A cancel has no exception."""
    configure()

    @task(name="type.fails")
    async def fails() -> None:
        raise Fail("for good")

    handle = await fails.aenqueue()
    await final(handle)
    assert (await stored(handle)).error_type == "Fail"
    later = await fails.using(delay=3600).aenqueue()
    await later.acancel()
    assert (await stored(later)).error_type is None
