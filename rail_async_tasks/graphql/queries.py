"""Reading tasks: `task` and `tasks`."""

from __future__ import annotations

import strawberry
from strawberry.types import Info
from strawberry.types.unset import UNSET

from rail_async_tasks import service
from rail_async_tasks.graphql.context import caller_of
from rail_async_tasks.graphql.errors import refusals_with_codes
from rail_async_tasks.graphql.types import TaskExecution

PAGE_SIZE = 50


async def one_task(info: Info, id: strawberry.ID) -> TaskExecution | None:
    with refusals_with_codes():
        caller = await caller_of(info)
        return TaskExecution.of(await service.aget(caller.viewer, id), caller.viewer)


async def many_tasks(
    info: Info,
    # UNSET, not None, so that the schema shows no default value.
    status: str | None = UNSET,
    name: str | None = UNSET,
    queue: str | None = UNSET,
    limit: int | None = PAGE_SIZE,
    after: strawberry.ID | None = UNSET,
) -> list[TaskExecution]:
    with refusals_with_codes():
        caller = await caller_of(info)
        snapshots = await service.alist(
            caller.viewer,
            status=_given(status),
            name=_given(name),
            queue=_given(queue),
            limit=PAGE_SIZE if limit is None else limit,
            after=_given(after),
        )
    return TaskExecution.all_of(snapshots, caller.viewer)


def _given(argument: str | None) -> str | None:
    return None if argument is UNSET else argument


@strawberry.type
class Query:
    task = strawberry.field(
        resolver=one_task,
        description="One task. A task that the caller may not see is NOT_FOUND.",
    )
    tasks = strawberry.field(
        resolver=many_tasks,
        description="The caller's tasks, newest first; `limit` is at most 500.",
    )
