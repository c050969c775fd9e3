"""A task for tests of servers that are replaced."""

from __future__ import annotations

import asyncio
from typing import Any

import strawberry

from rail_async_tasks import task_mutation


@task_mutation(name="clients.survive")
async def survive(info: Any) -> int:
    """End in the second attempt only."""
    attempt: int = info.context.task.attempt
    info.context.task.update_progress(5 * attempt, f"attempt {attempt}")
    if attempt == 1:
        await asyncio.Event().wait()
    return attempt


@strawberry.type
class Mutations:
    survive = survive
