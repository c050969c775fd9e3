"""Calls one body for an inline run: in the calling thread, or on a loop of its own there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async

from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.hooks import contained
from rail_async_tasks.runtime.attempts.calling import call
from rail_async_tasks.runtime.attempts.context import (
    ExecutionContext,
    TaskContext,
    TaskInfo,
    load_user,
)
from rail_async_tasks.snapshot import TaskSnapshot

# Takes a body's percentage and message.
Report = Callable[[int, str | None], None]


class TimedOut(TimeoutError):
    """The attempt took longer than its timeout."""


def leading(snapshot: TaskSnapshot, definition: TaskDefinition, report: Report) -> tuple[Any, ...]:
    """Returns the parameters before the arguments: `(root, info)`, `(info,)` or none."""
    if not definition.takes_info:
        return ()
    task = TaskContext(
        id=snapshot.id,
        name=snapshot.name,
        attempt=snapshot.attempts,
        queue=snapshot.queue,
        report=report if definition.options.track_progress else None,
    )
    info = TaskInfo(ExecutionContext(task, load_user(snapshot.owner_id), snapshot.tenant_id))
    return (None, info) if definition.takes_root else (info,)


def call_body(
    definition: TaskDefinition,
    lead: Callable[[], tuple[Any, ...]],
    arguments: dict[str, Any],
    timeout: float | None,
) -> Any:
    """Runs the body in this thread. Nothing can interrupt a `def`: its timeout is not enforced."""
    run_it = partial(call, definition.function, lead(), arguments)
    return on_loop(timeout, run_it) if definition.is_coroutine else run_it()


async def call_there(
    definition: TaskDefinition, lead: Callable[[], tuple[Any, ...]], arguments: dict[str, Any]
) -> Any:
    """Runs the body on the loop of `on_loop`, and what is plain of it in the caller's thread."""
    if definition.is_coroutine:
        parameters = await sync_to_async(contained(lead))()
        return await call(definition.function, parameters, arguments)
    return await sync_to_async(contained(call_body))(definition, lead, arguments, None)


def on_loop(timeout: float | None, run_it: Callable[[], Awaitable[Any]]) -> Any:
    """Awaits on a loop of its own. Raises `TimedOut`."""

    async def body() -> Any:
        scope = asyncio.timeout(timeout)
        try:
            async with scope:
                return await run_it()
        except TimeoutError as error:
            if scope.expired():
                raise TimedOut from error
            raise

    return async_to_sync(body)()
