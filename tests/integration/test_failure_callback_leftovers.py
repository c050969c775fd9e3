"""What a failure callback leaves behind, in its asyncio task."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import anyio
import pytest

from rail_async_tasks import task
from tests.support.runtimes import Configure, in_memory
from tests.support.waiting import eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), in_memory]

made: list[weakref.ref[Any]] = []


async def leaves_a_scope(**keywords: Any) -> None:
    anyio.CancelScope().__enter__()
    made.append(weakref.ref(asyncio.current_task()))


async def test_a_scope_that_a_callback_leaves_open_is_closed(configure: Configure) -> None:
    """Or it and its task would keep each other for ever; old anyio would go on cancelling them."""
    made.clear()
    configure(failure_callback=f"{__name__}.leaves_a_scope", on_failure="callback", max_retries=0)

    @task(name="s.fails")
    async def fails() -> None:
        raise ValueError

    await final(await fails.aenqueue())

    def is_gone() -> bool:
        gc.collect()
        return bool(made) and made[0]() is None

    await eventually(is_gone)
