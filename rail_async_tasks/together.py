"""Asks the database once for callers that ask at the same time."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async
from django.conf import settings

from rail_async_tasks.hooks import contained
from rail_async_tasks.per_loop import PerLoop

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
            synchronous code, as `sync_to_async` has it, and in no caller's context. After an error
            each question is asked by itself, so that the error is that of its caller alone.
        alone: returns whether to ask for each caller by itself, in its context, which code of the
            project's may read. With DATABASE_ROUTERS it is so in any case.
    """

    def __init__(
        self, ask: Callable[[Sequence[K]], Sequence[V]], alone: Callable[[], bool] = lambda: False
    ) -> None:
        self._ask = sync_to_async(contained(ask))
        self._alone = alone
        self._lines: PerLoop[_Line[K, V]] = PerLoop(_Line)

    async def __call__(self, question: K) -> V:
        """Returns the answer. Raises what `ask` raises."""
        if _has_own_thread() or settings.DATABASE_ROUTERS or self._alone():
            (answer,) = await self._ask([question])
            return answer
        loop, line = asyncio.get_running_loop(), self._lines.here()
        waiter: asyncio.Future[V] = loop.create_future()
        line.waiting.append((question, waiter))
        if line.serving is None:
            line.serving = loop.create_task(self._serve(line), context=contextvars.Context())
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
        except Exception as error:  # noqa: BLE001 - it is the caller's
            for one in some:
                if one[1].done():
                    continue
                if len(some) > 1:
                    await self._answer([one])
                else:
                    one[1].set_exception(error)
            return
        for (_, waiter), answer in zip(some, answers, strict=True):
            if not waiter.done():
                waiter.set_result(answer)


def _has_own_thread() -> bool:
    """Returns whether synchronous calls are made in a thread with connections of the caller's.

    A request has one, and so has what a thread waits for in `async_to_sync`.
    """
    if SyncToAsync.thread_sensitive_context.get(None) is not None:
        return True
    return getattr(AsyncToSync.executors, "current", None) is not None


class _Line(Generic[K, V]):
    """The callers of one event loop that wait."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[K, asyncio.Future[V]]] = deque()
        self.serving: asyncio.Task[None] | None = None
