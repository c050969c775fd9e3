"""Keeps the services of the runtime running: an unexpected error in one of them ends none."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from rail_async_tasks.backoff import LONGEST, Backoff
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

logger = get_logger("rail_async_tasks.runtime")


async def supervise(
    name: str,
    service: Callable[[], Awaitable[None]],
    ending: asyncio.Event,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Runs a service until it returns. After an error it runs again, later, unless `ending`.

    The services are children of one task group: an error that left one of them would end them all.
    """
    backoff = Backoff(
        f"The {name} failed", "It starts again; the other parts go on", log=logger, clock=clock
    )
    while True:
        began = clock()
        try:
            await service()
        except Exception as error:
            if clock() - began > LONGEST:  # it had recovered since its last failure
                backoff.recovered()
            pause = backoff.failed(describe(error), error, expected=False)
        else:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), pause)
        if ending.is_set():
            return
