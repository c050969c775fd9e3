"""Reading tasks: `task` and `tasks`."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry.types import Info
from strawberry.types.unset import UNSET

from rail_async_tasks import service
from rail_async_tasks.graphql import answers
from rail_async_tasks.graphql.context import acaller_of, caller_of
from rail_async_tasks.graphql.errors import errors_for_clients
from rail_async_tasks.graphql.types import EXECUTIONS, MAYBE_EXECUTION, TaskExecution
from rail_async_tasks.hooks import on_event_loop

PAGE_SIZE = 50


def one_task(info: Info, id: strawberry.ID) -> Any:
    return _aone_task(info, id) if on_event_loop() else _one_task(info, id)


async def _aone_task(info: Info, id: str) -> TaskExecution:
    with errors_for_clients():
        caller = await acaller_of(info)
        snapshot = await service.aget(caller.viewer, id)
        answers.current().take((snapshot,), answers.uses(info, "result"))
        return TaskExecution.of(snapshot, caller.viewer)


def _one_task(info: Info, id: str) -> TaskExecution:
    with errors_for_clients():
        viewer = caller_of(info).viewer
        snapshot = service.get(viewer, id)
        answers.current().take((snapshot,), answers.uses(info, "result"))
        return TaskExecution.of(snapshot, viewer)


def many_tasks(
    info: Info,
    # UNSET, not None, so that the schema shows no default value.
    status: str | None = UNSET,
    name: str | None = UNSET,
    queue: str | None = UNSET,
    limit: int | None = PAGE_SIZE,
    after: strawberry.ID | None = UNSET,
) -> Any:
    given = {"status": status, "name": name, "queue": queue, "after": after}
    chosen: dict[str, Any] = {"limit": PAGE_SIZE if limit is None else limit}
    chosen |= {key: value for key, value in given.items() if value is not UNSET}
    return _amany_tasks(info, chosen) if on_event_loop() else _many_tasks(info, chosen)


async def _amany_tasks(info: Info, chosen: dict[str, Any]) -> list[TaskExecution]:
    with errors_for_clients():
        caller = await acaller_of(info)
        answer, times = answers.current(), answers.uses(info, "result")
        async with answer.reading:
            size = answer.at_most(times)
            snapshots = await service.alist(
                caller.viewer, **chosen, results=times > 0, at_most=size
            )
            answer.take(snapshots, times)
    return TaskExecution.all_of(snapshots, caller.viewer)


def _many_tasks(info: Info, chosen: dict[str, Any]) -> list[TaskExecution]:
    with errors_for_clients():
        viewer = caller_of(info).viewer
        answer, times = answers.current(), answers.uses(info, "result")
        size = answer.at_most(times)
        snapshots = service.list_(viewer, **chosen, results=times > 0, at_most=size)
        answer.take(snapshots, times)
    return TaskExecution.all_of(snapshots, viewer)


@strawberry.type
class Query:
    task = strawberry.field(
        resolver=one_task,
        graphql_type=MAYBE_EXECUTION,
        description="One task. A task that the caller may not see is NOT_FOUND.",
    )
    tasks = strawberry.field(
        resolver=many_tasks,
        graphql_type=EXECUTIONS,
        description="The caller's tasks, newest first; `limit` is at most 500.",
    )
