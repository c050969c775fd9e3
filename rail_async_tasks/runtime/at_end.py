"""The last steps of a runtime, which an exit stack takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType


def await_at_end(stack: AsyncExitStack, step: Callable[[], Awaitable[None]]) -> None:
    """Has the stack await a step of the end, unless a step before it was cancelled.

    The loop cancels a step that takes too long: it ends, and no later step may hold it up.
    """

    async def take(
        kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if not isinstance(error, asyncio.CancelledError):
            await step()

    stack.push_async_exit(take)
