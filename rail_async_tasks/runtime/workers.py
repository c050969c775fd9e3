"""Long-lived children of the runtime's task group that run attempts, one after the other.

A child costs as much to start as fifty no-ops, so a child that is free takes the next attempt. Each
attempt runs in a context of its own all the same: what a body sets in a ContextVar ends with it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from anyio.abc import TaskGroup

if TYPE_CHECKING:
    from rail_async_tasks.runtime.attempt import Attempt


class in_context:  # noqa: N801 (used as a verb: `await in_context(...)`)
    """Awaits a coroutine, every step of it in `context`, within the current task."""

    __slots__ = ("_context", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, None], context: contextvars.Context) -> None:
        self._coroutine = coroutine
        self._context = context

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, run = self._coroutine, self._context.run
        try:
            awaited = run(coroutine.send, None)
            while True:
                try:
                    value = yield awaited
                except BaseException as error:
                    awaited = run(coroutine.throw, error)
                else:
                    awaited = run(coroutine.send, value)
        except StopIteration:
            return


class Workers:
    """Runs attempts as they are handed over. `hire` runs in the task that owns the group."""

    def __init__(self, run: Callable[[Attempt], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._waiting: deque[tuple[Attempt, contextvars.Context]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._hire = asyncio.Event()
        self._closed = False

    def hand_over(self, attempt: Attempt, context: contextvars.Context) -> None:
        """Has a worker run the attempt in `context`. A plain call, on the loop."""
        self._waiting.append((attempt, context))
        if not self._wake_one():
            self._hire.set()

    async def hire(self, group: TaskGroup) -> None:
        """Starts workers while there is more to run than are free; returns after `close`.

        anyio starts children only from inside a task, and a commit is reported by a callback.
        """
        while not self._closed:
            await self._hire.wait()
            self._hire.clear()
            for _ in range(len(self._waiting)):
                group.start_soon(self._work)

    def close(self) -> None:
        """Lets the workers go that are free, and the others after their attempt."""
        self._closed = True
        self._hire.set()
        while self._wake_one():
            pass

    def _wake_one(self) -> bool:
        while self._idle:
            free = self._idle.pop()
            if not free.done():  # or its worker has been cancelled, and has not yet noticed
                free.set_result(None)
                return True
        return False

    def _retire(self) -> None:
        """A worker leaves; another takes its place if there is more to run."""
        if self._waiting:
            self._hire.set()

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while True:
            if self._waiting:
                attempt, context = self._waiting.popleft()
                await in_context(self._run(attempt), context)
                for _ in range(attempt.cancels):
                    task.uncancel()
                if task.cancelling():
                    # Somebody else's cancel, the body's own or the end of the loop. It may be yet
                    # to come: this task meets it here, and takes no other attempt into it.
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(0)
                    self._retire()
                    return
            elif self._closed:
                return
            else:
                free: asyncio.Future[None] = task.get_loop().create_future()
                self._idle.append(free)
                try:
                    await free
                except asyncio.CancelledError:
                    # A timer that a body left behind, or the end of the loop. Raising it would
                    # cancel the whole group.
                    if free in self._idle:
                        self._idle.remove(free)
                    self._retire()
                    return
