"""Following tasks: `taskProgress` (and its alias `taskUpdated`) and `myTaskUpdates`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import strawberry
from strawberry.types import Info

from rail_async_tasks import service
from rail_async_tasks.auth.context import RequestContext
from rail_async_tasks.graphql.context import caller_of
from rail_async_tasks.graphql.errors import refusals_with_codes
from rail_async_tasks.graphql.types import TaskExecution


async def follow_task(info: Info, task_id: strawberry.ID) -> AsyncGenerator[TaskExecution, None]:
    with refusals_with_codes():
        caller = await caller_of(info)
        # Unsubscribes from the bus now, not when the garbage collector finds the generator.
        async with aclosing(service.watch(caller.viewer, task_id)) as snapshots:
            async for snapshot in snapshots:
                if snapshot.is_final and isinstance(info.context, RequestContext):
                    info.context.ended = True
                yield TaskExecution.of(snapshot, caller.viewer, in_stream=True)


async def follow_mine(info: Info) -> AsyncGenerator[TaskExecution, None]:
    with refusals_with_codes():
        caller = await caller_of(info)
        async with aclosing(service.watch_mine(caller.viewer)) as snapshots:
            async for snapshot in snapshots:
                yield TaskExecution.of(snapshot, caller.viewer, in_stream=True)


@strawberry.type
class Subscription:
    task_progress = strawberry.subscription(
        resolver=follow_task,
        description="A task as it stands, then its changes in order; ends after the final one.",
    )
    task_updated = strawberry.subscription(
        resolver=follow_task, description="The same as `taskProgress`."
    )
    my_task_updates = strawberry.subscription(
        resolver=follow_mine,
        description="The caller's unfinished tasks, then every change of a task of theirs.",
    )
