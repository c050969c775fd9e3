"""Has long documents that are new take turns, so that they do not hold up what costs little.

To parse and validate a document of the largest size takes the loop some 20 ms, a hundred times as
long as a probe takes. Of fifty that arrive together each would come before the next step of
everything else. So they come one at a time, and after each the loop is free of them for as long as
it has taken: they have half of the loop's time at most.
"""

from __future__ import annotations

import asyncio
from typing import Final

import anyio

from rail_async_tasks.graphql import documents
from rail_async_tasks.per_loop import PerLoop


class _Turns:
    """The turns of one loop, in the order of arrival."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()  # asyncio's holds its loop
        self._next_at = 0.0

    async def take(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._lock:
            await asyncio.sleep(max(self._next_at - loop.time(), 0.0))
            # Called in the next round, before the next caller goes on.
            loop.call_soon(self._ended, loop.time())

    def _ended(self, began: float) -> None:
        now = asyncio.get_running_loop().time()
        self._next_at = now + (now - began)


_turns: Final = PerLoop(_Turns)


async def turn(text: str | None) -> None:
    """Returns when this document may be read and executed: at once where that is quick.

    The caller reads or executes it before it waits for anything else.
    """
    if text is not None and documents.takes_long(text):
        await _turns.here().take()
