"""Asks the database once for callers that ask at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync, sync_to_async
from django.conf import settings

from rail_async_tasks.hooks import contained

K = TypeVar("K")
V = TypeVar("V")

# Questions of one call. Databases limit the parameters of a statement.
MOST: Final = 100


class Together(Generic[K, V]):
    """A question that many sockets ask at once, when they all reconnect say.

    Callers that come while a call is under way wait for the next one, which answers them all. So
    each gets an answer that was read after it asked.

    Args:
        ask: returns the answers to some questions, in their order. It runs in Django's thread for
            synchronous code, as `sync_to_async` has it; its error is that of every caller.
    """

    def __init__(self, ask: Callable[[Sequence[K]], Sequence[V]]) -> None:
        self._ask = sync_to_async(contained(ask))
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line[K, V]] = WeakKeyDictionary()

    async def __call__(self, question: K) -> V:
        """Returns the answer. Raises what `ask` raises."""
        own_thread = SyncToAsync.thread_sensitive_context.get(None) is not None
        # A request has a thread with connections of its own, and a router may read the context.
        if own_thread or settings.DATABASE_ROUTERS:
            (answer,) = await self._ask([question])
            return answer
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = _Line()
        waiter: asyncio.Future[V] = loop.create_future()
        line.waiting.append((question, waiter))
        if line.serving is None:
            line.serving = asyncio.create_task(self._serve(line))
        return await waiter

    async def _serve(self, line: _Line[K, V]) -> None:
        try:
            while line.waiting:
                some = [line.waiting.popleft() for _ in range(min(len(line.waiting), MOST))]
                await self._answer([it for it in some if not it[1].done()])
        finally:
            line.serving = None

    async def _answer(self, some: list[tuple[K, asyncio.Future[V]]]) -> None:
        try:
            answers = await self._ask([question for question, _ in some])
        except Exception as error:  # noqa: BLE001 - it is the callers'
            for _, waiter in some:
                if not waiter.done():
                    waiter.set_exception(error)
            return
        for (_, waiter), answer in zip(some, answers, strict=True):
            if not waiter.done():
                waiter.set_result(answer)


class _Line(Generic[K, V]):
    """The callers of one event loop that wait."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[K, asyncio.Future[V]]] = deque()
        self.serving: asyncio.Task[None] | None = None
