"""Changing tasks that exist: `cancelTask` and `retryTask`."""

from __future__ import annotations

from functools import partial

import strawberry
from strawberry.types import Info

from rail_async_tasks import service
from rail_async_tasks.auth.permissions import check_permissions
from rail_async_tasks.graphql.context import caller_of
from rail_async_tasks.graphql.errors import refusals_with_codes
from rail_async_tasks.graphql.types import TaskExecution, TaskMutationPayload


async def cancel_task(info: Info, id: strawberry.ID) -> TaskExecution | None:
    with refusals_with_codes():
        caller = await caller_of(info)
        return TaskExecution.of(await service.acancel(caller.viewer, id), caller.viewer)


async def retry_task(info: Info, id: strawberry.ID) -> TaskMutationPayload | None:
    with refusals_with_codes():
        caller = await caller_of(info)
        snapshot = await service.aretry(caller.viewer, id, permit=partial(check_permissions, info))
        return TaskMutationPayload.of(snapshot, caller.viewer)


@strawberry.type
class Mutation:
    cancel_task = strawberry.mutation(
        resolver=cancel_task, description="Ask an unfinished task to end."
    )
    retry_task = strawberry.mutation(
        resolver=retry_task, description="Run a finished task again, as a new task."
    )
