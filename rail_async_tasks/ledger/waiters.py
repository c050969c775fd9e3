"""Coroutines that wait for one event of a writer. On its event loop."""

from __future__ import annotations

import asyncio


class Waiters:
    """Futures of the coroutines that wait; truthy while there are any."""

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self._futures)

    async def wait(self) -> None:
        """Returns at the next `release`."""
        future = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        await future

    def release(self) -> None:
        """Lets every waiting coroutine go on."""
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():
                future.set_result(None)
