"""Repeats calls to a database that may be away, until it answers or the service stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rail_async_tasks.backoff import Backoff
from rail_async_tasks.ledger.errors import is_of_row
from rail_async_tasks.text import describe

T = TypeVar("T")


class PersistentCalls:
    """Repeats calls while the database fails. A stop ends the waits at once."""

    def __init__(self, *, stop: asyncio.Event, backoff: Backoff) -> None:
        self._stop = stop
        self._backoff = backoff

    async def until_done(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Returns what the call returns, or None after the stop.

        Raises:
            Exception: any error of the call that is not the database's.
        """
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            while not self._stop.is_set():
                attempt = asyncio.ensure_future(call())
                # A database that is away must not hold up the end of the process.
                await asyncio.wait({attempt, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not attempt.done():
                    attempt.cancel()
                    return None
                try:
                    result = attempt.result()
                except Exception as error:
                    if is_of_row(error):
                        raise
                    pause = self._backoff.failed(describe(error), error)
                    await asyncio.wait({stopped}, timeout=pause)
                else:
                    self._backoff.recovered()
                    return result
        finally:
            stopped.cancel()
        return None
