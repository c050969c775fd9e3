"""Keeps the parts of the runtime running: an unexpected error in one of them ends none."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError

from rail_async_tasks.backoff import LONGEST, Backoff
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import describe

logger = get_logger("rail_async_tasks.runtime")


async def supervise(name: str, part: Callable[[], Awaitable[None]], ending: asyncio.Event) -> None:
    """Runs a part until it returns. After an error it runs again, in a while, unless `ending`.

    The parts are children of one task group: an error that left one of them would end them all.
    """
    backoff = Backoff(f"The {name} failed", "It starts again; the other parts go on", log=logger)
    while True:
        began = time.monotonic()
        try:
            await part()
        except Exception as error:
            if time.monotonic() - began > LONGEST:
                backoff.recovered()
            pause = backoff.failed(describe(error), error, expected=False)
        else:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), pause)
        if ending.is_set():
            return


def is_of_row(error: BaseException) -> bool:
    """Whether it is what was to be written that is wrong, and not the database."""
    if isinstance(error, DataError | IntegrityError):
        return True
    return not isinstance(error, DatabaseError | InterfaceError)
