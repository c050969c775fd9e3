"""One asyncio task per attempt, so that what a body leaves open ends with the body.

A timeout, a cancel scope or a callback that outlives its attempt finds a finished task. The tasks
belong to no task group: a group ends when anything goes wrong in one of its children, and anyio
asserts in each child that its scopes were closed in order.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING

from rail_async_tasks.runtime.attempts.leftovers import close_scopes
from rail_async_tasks.safe_logging import get_logger

if TYPE_CHECKING:
    from rail_async_tasks.runtime.attempts.attempt import Attempt

logger = get_logger("rail_async_tasks.runtime")


class BodyTasks:
    """Starts attempts and keeps their tasks. `on_over` is called when an attempt's task is done."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_over: Callable[[Attempt], None]) -> None:
        self._loop = loop
        self._on_over = on_over
        # The loop itself holds its tasks by weak references only.
        self._attempts: dict[asyncio.Task[None], Attempt] = {}

    def start(self, attempt: Attempt, context: contextvars.Context) -> None:
        """Runs the attempt in `context`. A plain call, on the loop."""
        body = _run(attempt)
        try:
            task = self._loop.create_task(body, name=attempt.snapshot.name, context=context)
        except BaseException:  # a task factory of the project's, or of a library
            body.close()
            raise
        self._attempts[task] = attempt
        task.add_done_callback(self._over)

    @property
    def running(self) -> bool:
        """Returns whether an attempt has neither ended nor been given up."""
        return any(not attempt.ended for attempt in self._attempts.values())

    def _over(self, task: asyncio.Task[None]) -> None:
        attempt = self._attempts.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("The attempt of task %s broke", attempt.snapshot.id, exc_info=error)
            attempt.break_off(error)
        elif not attempt.ended:
            attempt.end_cancelled()  # before its first step
        self._on_over(attempt)


async def _run(attempt: Attempt) -> None:
    try:
        await attempt.run()
    finally:
        close_scopes()
