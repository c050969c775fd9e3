"""Following tasks: `taskProgress` (and its alias `taskUpdated`) and `myTaskUpdates`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import strawberry
from strawberry.types import Info

from rail_async_tasks import service
from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.auth.rights import guarded
from rail_async_tasks.graphql import answers
from rail_async_tasks.graphql.context import acaller_of, guard_of
from rail_async_tasks.graphql.errors import errors_for_clients
from rail_async_tasks.graphql.streamed_fields import streamed
from rail_async_tasks.graphql.types import EXECUTION, TaskExecution


async def follow_task(info: Info, task_id: strawberry.ID) -> AsyncGenerator[Any, None]:
    with errors_for_clients():
        caller = await acaller_of(info)
        answer, times = answers.current(), answers.uses(info, "result")
        # Unsubscribes from the bus now, not when the garbage collector finds the generator.
        watched = guarded(service.watch(caller.viewer, task_id), guard_of(info, caller))
        async with aclosing(watched) as snapshots:
            async for snapshot in snapshots:
                if snapshot.is_final and isinstance(info.context, RequestContext):
                    info.context.ended = True
                answer.begin_event()
                answer.take((snapshot,), times)
                yield TaskExecution.of(snapshot, caller.viewer, in_stream=True)


async def follow_mine(info: Info) -> AsyncGenerator[Any, None]:
    with errors_for_clients():
        caller = await acaller_of(info)
        answer, times = answers.current(), answers.uses(info, "result")
        watched = guarded(service.watch_mine(caller.viewer), guard_of(info, caller))
        async with aclosing(watched) as snapshots:
            async for snapshot in snapshots:
                answer.begin_event()
                answer.take((snapshot,), times)
                yield TaskExecution.of(snapshot, caller.viewer, in_stream=True)


@strawberry.type
class Subscription:
    task_progress = streamed(
        follow_task,
        EXECUTION,
        "A task as it stands, then its changes in order; ends after the final one.",
    )
    task_updated = streamed(follow_task, EXECUTION, "The same as `taskProgress`.")
    my_task_updates = streamed(
        follow_mine,
        EXECUTION,
        "The caller's unfinished tasks, then every change of a task of theirs.",
    )
