"""A result or an exception whose own code raises: it fails its task, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from rail_async_tasks import task
from rail_async_tasks.hosting import process as host
from tests.support.rude import ERRORS, EXCEPTIONS, RESULTS
from tests.support.runtimes import Configure, in_memory
from tests.support.waiting import eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly")]

VALUES = [*RESULTS, *EXCEPTIONS]


@pytest.mark.covering("value", "error", "backend", "kind")
@in_memory
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])
@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_it_fails_its_task(
    configure: Configure, value: str, error: type[BaseException], backend: str, kind: str
) -> None:
    """The task is failed with some text, its slot is free, and the next one runs."""
    configure(backend=backend, max_concurrency=1)

    def end() -> Any:
        if value in RESULTS:
            return RESULTS[value](error)
        raise EXCEPTIONS[value](error)

    async def aend() -> Any:
        return end()

    declared = task(name="rude.one", max_retries=0)(aend if kind == "async def" else end)

    @task(name="rude.next", max_retries=0)
    async def after() -> int:
        return 7

    for _ in range(2):
        snapshot = await final(await declared.aenqueue())
        assert snapshot.status == "failed"
        assert snapshot.error
    assert await (await after.aenqueue()).aresult(10) == 7
    runtime = host.hosted()
    if runtime is not None:
        await eventually(lambda: not runtime.attempts)
        assert runtime.statistics()["running"] == 0
